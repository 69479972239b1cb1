"""`sigmagraft statistics --model M -o M.v3.safetensors`: a model measured, for `--sampler M.v3.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import OptionError
from .. import output
from ..progress import Progress
from . import generate, options, recipe
from .options import LOADING, STARTING
from .parser import Parser, number, size

MEASURED = ("negative", "cfg", "cfg_rescale", "size", "seed")


def run(argv: Sequence[str]) -> int:
    """Measure, then write the file."""
    from ...samplers.statistics_file import SUFFIX, save_statistics

    args = _parser().parse(argv)
    own = {
        name: vars(args).pop(name)
        for name in ("prompts", "count", "batch", "positions", "rows")
        if name in args
    }
    settings, _ = recipe.settings_of(args)
    path = Path(settings.get("out") or f"{Path(settings['model']).stem}{SUFFIX}").expanduser()
    if not path.name.lower().endswith(SUFFIX):
        raise OptionError(f"{path.name!r}", "--out", f"a name that ends in {SUFFIX}")
    output.check_folder(path.parent)
    said = recipe.prompts_of({"prompt_file": own["prompts"], "negative": ""}) if "prompts" in own else []
    with Progress(quiet=settings.get("quiet", False)) as progress:
        save_statistics(_measured(settings, {**own, "prompts": said}, progress), path)
        progress.note(f"draw with --sampler {path}, at 5 to 15 steps and about this guidance")
    if not settings.get("quiet"):
        print(path)
    return 0


def _measured(settings: dict[str, Any], own: dict[str, Any], progress: Progress) -> Any:
    loading = {name: settings[name] for name in LOADING if name in settings}
    loading |= {name: settings[name] for name in STARTING if name in settings}
    pipe = generate.load_pipeline(source=settings["model"], progress=progress.loading, **loading)
    progress.close()
    from ..measure import measure  # imports torch

    asked = {name: settings[name] for name in MEASURED if name in settings}
    return measure(pipe, **own, progress=progress.measured, **asked)


def _parser() -> Parser:
    made = Parser("statistics", "A model measured along its own trajectories, for DPM-Solver-v3.")
    add = made.add_argument_group("measuring").add_argument
    add("-o", "--out", metavar="FILE", help="default MODEL.v3.safetensors")
    add("--prompts", metavar="FILE", help="one a line; default: some of ours")
    add("--negative", metavar="TEXT", help="as it will be used")
    add(
        "--cfg",
        type=number(float, -100, 1000),
        metavar="X",
        help="as it will be used, default 7; within a factor of 1.5 they are good",
    )
    add("--cfg-rescale", type=number(float, 0, 1), metavar="X", help="as it will be used; default 0")
    add("--count", type=number(int, 1, 4096), metavar="N", help="trajectories; default 32")
    add("--batch", type=number(int, 1, 4096), metavar="N", help="of them at once; default 4")
    add("--rows", type=number(int, 4, 200), metavar="N", help="noise levels that are measured; default 40")
    add("--size", type=size, metavar="WxH", help="pixels; default: the model's own")
    add("--seed", type=number(int, 0, 2**64 - 1), metavar="N", help="default 0")
    add(
        "--positions",
        action="store_true",
        help="tables for each place, not each channel: for this size only, with hundreds of trajectories",
    )
    options.add_model(made)
    options.add_running(made)
    return made
