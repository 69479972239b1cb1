"""`sigmagraft compare --samplers a,b --steps 8,20 PROMPT`: samplers side by side, as pictures, numbers and a plot."""

from __future__ import annotations

import secrets
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError
from .. import output
from ..progress import Progress
from . import compare_files, generate, options, recipe
from .options import LOADING, SIZES, STARTING
from .parser import Parser, named, number

if TYPE_CHECKING:
    from ..compare import Comparison, Entry
    from ..ways import Way

Named = tuple[str, dict[str, str]]
OURS = ("samplers", "schedules", "equal_nfe", "reference", "reference_schedule", "reference_steps")
SHARED = (
    "negative",
    "size",
    "guidance",
    "cfg",
    "cfg_rescale",
    "cfg_interval",
    "clip_skip",
    *SIZES,
    "emphasis",
    "noise",
)


def run(argv: Sequence[str]) -> int:
    """Walk every sampler, then save grid.png, plot.png and compare.json in a folder of their own."""
    args = _parser().parse(argv, words="prompt")
    asked = {name: getattr(args, name) for name in (*OURS, "steps") if hasattr(args, name)}
    for name in asked:
        delattr(args, name)
    settings, notes = recipe.settings_of(args)
    settings.setdefault("seed", secrets.randbelow(2**32))
    settings["options"] = {}
    prompts = recipe.prompts_of(settings)
    if len(prompts) != 1:
        raise OptionError(f"{len(prompts)} prompts", "compare", "one")
    if "steps" in asked and "equal_nfe" in asked:
        raise OptionError("both --steps and --equal-nfe", "compare", "one of them")
    with Progress(quiet=settings.get("quiet", False)) as progress:
        for note in notes:
            progress.note(note)
        return _compare(prompts[0], settings, asked, progress)


def _parser() -> Parser:
    made = Parser("compare", "The same picture by several samplers: a grid, a table and a plot.")
    made.add_argument("prompt", nargs="*", metavar="PROMPT", help="what the picture shows")
    add = made.add_argument_group("what is compared").add_argument
    add("--samplers", type=methods, metavar="A,B", help="such as euler,dpmpp_2m,k_diffusion:heun,ddim:eta=1")
    add(
        "--schedules",
        type=methods,
        metavar="X,Y",
        help="such as karras:rho=5,normal; default: the sampler's own",
    )
    add("--steps", type=counts, metavar="N,N", help="numbers of steps; default 8,20")
    add(
        "--equal-nfe",
        type=counts,
        metavar="N,N",
        help="instead: numbers of model evaluations; each sampler takes the steps they allow",
    )
    add("--reference", type=named, metavar="NAME", help="what is measured against; default dpmpp_2m")
    add("--reference-schedule", type=named, metavar="NAME", help="default karras")
    add("--reference-steps", type=number(int, 1, 1000), metavar="N", help="default 200")
    options.add_prompts(made)
    options.add_canvas(made.add_argument_group("drawing").add_argument)
    options.add_sizes(made)
    options.add_model(made)
    options.add_running(made)
    add = made.add_argument_group("output").add_argument
    add("--out", metavar="FOLDER", help="default outputs/compare-{seed}, numbered up where it exists")
    add("--json", action="store_true", help="print the numbers as JSON")
    return made


def methods(text: str) -> list[Named]:
    """`a,b:option=value,option=value,c`: a piece that only sets an option goes with the name before it."""
    pieces: list[str] = []
    for piece in filter(None, map(str.strip, text.split(","))):
        if pieces and "=" in piece and ":" not in piece.split("=")[0]:
            pieces[-1] += ("," if "=" in pieces[-1] else ":") + piece
        else:
            pieces.append(piece)
    if not pieces:
        raise ArgumentTypeError("no name")
    return [named(piece) for piece in pieces]


def counts(text: str) -> list[int]:
    """`8,20`: whole numbers from 1 to 1000."""
    one: Callable[[str], float] = number(int, 1, 1000)
    return [int(one(piece)) for piece in text.split(",") if piece.strip()]


def _compare(prompt: str, settings: dict[str, Any], asked: dict[str, Any], progress: Progress) -> int:
    from .. import compare, ways
    from ..guidance_weight import check_guidance

    walks = ways.listed(asked.get("samplers", [("euler", {}), ("dpmpp_2m", {})]), asked.get("schedules", []))
    (fine,) = ways.listed(
        [asked.get("reference", ("dpmpp_2m", {}))], [asked.get("reference_schedule", ("karras", {}))]
    )
    shared = {name: settings[name] for name in SHARED if name in settings} | {"seed": settings["seed"]}
    shared["cfg"] = check_guidance(
        shared.get("guidance", "cfg"), shared.get("cfg"), shared.get("cfg_interval")
    )
    recipe.check_names({**shared, "sampler": fine.sampler, "options": dict(fine.options)})
    folder = Path(settings.get("out", f"outputs/compare-{settings['seed']}"))
    output.check_folder(folder.parent)
    loading = {name: settings[name] for name in LOADING if name in settings}
    loading |= {name: settings[name] for name in STARTING if name in settings}
    pipe = generate.load_pipeline(source=settings["model"], progress=progress.loading, **loading)
    progress.close()
    reference = compare.Entry(fine, "reference", asked.get("reference_steps", 200))
    made = compare.Comparison(pipe, prompt, shared, reference)
    entries: list[Entry] = []
    code = 0
    try:
        for entry in _entries(made, walks, asked, progress):
            entries.append(entry)
    except KeyboardInterrupt:
        progress.note(f"stopped; kept {len(entries)} walks")
        code = 130
    if entries:
        told = {"prompt": prompt, **shared, "model": settings["model"]}
        compare_files.save(folder, made, entries, told, settings)
    return code


def _entries(
    made: Comparison, walks: Sequence[Way], asked: dict[str, Any], progress: Progress
) -> Iterable[Entry]:
    progress.note(f"reference: {compare_files.line(made.reference)}")
    equal = "equal_nfe" in asked
    columns = asked.get("equal_nfe") or asked.get("steps") or [8, 20]
    for way in walks:
        # one that chooses its own steps takes the same whatever is asked
        for column in columns[:1] if way.spec.adaptive else columns:
            steps = made.steps_for(way, column) if equal else column
            entry = made.entry(way, steps, _column(way, column, equal))
            progress.note(compare_files.line(entry))
            yield entry


def _column(way: Way, count: int, equal: bool) -> str:
    """What stands above a walk; one that chooses its own steps has as many evaluations as it wants."""
    if way.spec.adaptive:
        return "its own steps"
    return f"{count} evaluations" if equal else f"{count} steps"
