"""What a run does besides one walk of one model: a second pass (hires fix) and a refiner."""

from __future__ import annotations

from typing import Any

from ...core.errors import OptionError
from .parser import Parser, number, size

NAME = "hires"
PREFIX = "hires_"
SETTINGS = ("hires", "refiner", "switch")
_TEXTS = ("upscaler", "sampler", "schedule", "prompt", "negative")


def add_passes(parser: Parser) -> None:
    """The options of both."""
    add = parser.add_argument_group("hires fix: drawn small, enlarged, redrawn in part").add_argument
    add("--hires", metavar="X", help="enlarge X times (1 to 8), or to WxH")
    add(
        "--hires-upscaler",
        metavar="NAME",
        help="latent (default), latent_bicubic, lanczos ...; none is a network",
    )
    add(
        "--hires-strength", type=number(float, 0.001, 1), metavar="X", help="how much is redrawn; default 0.7"
    )
    add("--hires-steps", type=number(int, 1, 1000), metavar="N", help="of the second pass, all of them made")
    add("--hires-cfg", type=number(float, -100, 1000), metavar="X", help="of the second pass")
    add("--hires-sampler", metavar="NAME", help="of the second pass")
    add("--hires-schedule", metavar="NAME", help="of the second pass")
    add("--hires-prompt", metavar="TEXT", help="of the second pass")
    add("--hires-negative", metavar="TEXT", help="of the second pass")
    add = parser.add_argument_group("refiner").add_argument
    add("--refiner", metavar="SOURCE", help="a model that takes over for the last steps, as SDXL's refiner")
    add(
        "--switch",
        type=number(float, 0, 1),
        metavar="X",
        help="share of the steps before it does; default 0.8",
    )


def gather(given: dict[str, Any], recorded: dict[str, Any]) -> None:
    """The options of the second pass as one table, over those of a picture. OptionError for one without a size."""
    own = {name.removeprefix(PREFIX): given.pop(name) for name in list(given) if name.startswith(PREFIX)}
    if NAME in given:
        own |= _scale(given.pop(NAME))
    before = recorded.get(NAME)
    if own and "scale" not in own and "size" not in own and before is None:
        raise OptionError(f"--hires-{next(iter(own))} without --hires", todo="say how large with --hires")
    if own:
        kept = dict(before or {})
        if "scale" in own or "size" in own:
            kept = {name: value for name, value in kept.items() if name not in ("scale", "size")}
        given[NAME] = kept | own


def _scale(text: str) -> dict[str, Any]:
    try:
        return {"scale": float(text)}
    except ValueError:
        return {"size": size(text)}


def usable(value: Any) -> bool:
    """Whether what a picture says of a second pass is a table of what it may say."""
    return isinstance(value, dict) and all(isinstance(value.get(name, ""), str) for name in _TEXTS)


def check(settings: dict[str, Any]) -> None:
    """OptionError before a model loads."""
    if NAME not in settings:
        return
    from ...samplers import SAMPLERS, SCHEDULES
    from ..hires import Hires

    own = settings[NAME]
    if isinstance(own.get("size"), list):
        own["size"] = tuple(own["size"])
    for name, registry in (("sampler", SAMPLERS), ("schedule", SCHEDULES)):
        if name in own:
            own[name] = registry[own[name]].name
    Hires.read(own)
