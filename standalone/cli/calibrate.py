"""`sigmagraft calibrate --model M --steps 6 -o M-6.json`: a solver fitted to a model, for `--sampler M-6.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import OptionError
from .. import output
from ..progress import Progress
from . import generate, lora_options, options, recipe
from .options import LOADING, STARTING
from .parser import Parser, number, size

FITTED_UNDER = ("negative", "cfg", "cfg_rescale", "size", "seed", "loras")
SIZES = ("count", "held_out", "batch", "teacher", "rounds")


def run(argv: Sequence[str]) -> int:
    """Fit, then write the file; the walks are kept beside it, for another number of steps or after a stop."""
    from ...samplers.calibration_file import SUFFIX, save_calibration

    args = _parser().parse(argv)
    own = {name: vars(args).pop(name) for name in ("steps", "prompts", *SIZES) if name in args}
    if "steps" not in own:
        raise OptionError("no number of steps", "--steps", "2 to 20, such as 6")
    settings, _ = recipe.settings_of(args)
    path = Path(settings.get("out") or f"{Path(settings['model']).stem}-{own['steps']}{SUFFIX}").expanduser()
    if not path.name.lower().endswith(SUFFIX):
        raise OptionError(f"{path.name!r}", "--out", f"a name that ends in {SUFFIX}")
    output.check_folder(path.parent)
    said = recipe.prompts_of({"prompt_file": own["prompts"], "negative": ""}) if "prompts" in own else []
    with Progress(quiet=settings.get("quiet", False)) as progress:
        made = _fitted(settings, {**own, "prompts": said}, path.parent, progress)
        save_calibration(made, path)
        progress.note(_report(made.facts, path))
    if not settings.get("quiet"):
        print(path)
    return 0


def _fitted(settings: dict[str, Any], own: dict[str, Any], folder: Path, progress: Progress) -> Any:
    loading = {name: settings[name] for name in LOADING if name in settings}
    loading |= {name: settings[name] for name in STARTING if name in settings}
    pipe = generate.load_pipeline(source=settings["model"], progress=progress.loading, **loading)
    progress.close()
    lora_options.use(pipe, settings, progress.note)
    from ..calibrate import Sizes, calibrate  # imports torch

    sizes = Sizes(**{name: own[name] for name in SIZES if name in own})
    return calibrate(
        pipe,
        own["prompts"],
        steps=own["steps"],
        sizes=sizes,
        folder=folder,
        progress=progress.fitted,
        note=progress.note,
        **{name: settings[name] for name in FITTED_UNDER if name in settings},
    )


def _report(facts: Any, path: Path) -> str:
    error = facts["error"]
    return (
        f"error {error['fitted']:.4f} on what it was fitted to, {error['held_out']:.4f} on what was held out; "
        f"the best general sampler, {facts['general']}, has {error['general']:.4f}; draw with --sampler {path}"
    )


def _parser() -> Parser:
    made = Parser("calibrate", "A solver of few steps fitted to a model, with its own schedule.")
    add = made.add_argument_group("fitting").add_argument
    add("--steps", type=number(int, 2, 20), metavar="N", help="evaluations it shall take, such as 6")
    add("-o", "--out", metavar="FILE", help="default MODEL-N.json")
    add("--prompts", metavar="FILE", help="one a line, the last quarter is held out; default: some of ours")
    add("--negative", metavar="TEXT", help="as it will be used")
    add("--cfg", type=number(float, -100, 1000), metavar="X", help="as it will be used; default 7")
    add("--cfg-rescale", type=number(float, 0, 1), metavar="X", help="as it will be used; default 0")
    add("--size", "--resolution", type=size, metavar="WxH", help="pixels; default: the model's own")
    add("--seed", type=number(int, 0, 2**63), metavar="N", help="default 0")
    add("--count", type=number(int, 4, 4096), metavar="N", help="trajectories to fit; default 40")
    add("--held-out", type=number(int, 4, 4096), metavar="N", help="trajectories held out; default 16")
    add("--batch", type=number(int, 1, 4096), metavar="N", help="of them at once; default 8")
    add("--teacher", type=number(int, 10, 1000), metavar="N", help="steps of the fine walks; default 48")
    add("--rounds", type=number(int, 1, 50), metavar="N", help="of the fit at most; default 10")
    lora_options.add_loras(made)
    options.add_model(made)
    options.add_running(made)
    return made
