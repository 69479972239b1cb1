"""--control: ControlNets, T2I-Adapters and their kin, and what pictures keep of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parser import Parser

Settings = dict[str, Any]
NAME = "control"


def add_control(parser: Parser) -> None:
    """Pictures that say where things stand."""
    add = parser.add_argument_group("control (ControlNet, T2I-Adapter and their kin)").add_argument
    add(
        "--control",
        dest=NAME,
        action="append",
        metavar="HOW:FILE:IMAGE",
        help="such as canny:model.safetensors:house.png:strength=0.8:end=0.6; HOW makes the hint of the image, see "
        "`sigmagraft preprocess`, none takes it as it is; reference:IMAGE needs no file; @FILE reads JSON or TOML; "
        "may be repeated",
    )


def usable(value: Any) -> bool:
    """Whether what a picture says is a list of texts and tables."""
    return isinstance(value, list) and all(isinstance(one, (str, dict)) for one in value)


def check(settings: Settings) -> None:
    """Reads every control, its pictures and its file's header, before any model loads; @FILE becomes what it says."""
    if not settings.get(NAME):
        return
    from ..control import check_file
    from ..control_text import from_file, read_controls

    given: list[Any] = []
    for one in settings[NAME]:
        given += from_file(one[1:]) if isinstance(one, str) and one.startswith("@") else [one]
    for control in read_controls(given):
        check_file(control.model)
    settings[NAME] = given


def portable(settings: Settings, shorten: Callable[[str], str]) -> None:
    """Paths in a picture's settings in a form that works from any folder."""
    if not settings.get(NAME):
        return
    from ..control_text import portable as text

    def one(given: Any) -> Any:
        if isinstance(given, str):
            return text(given, shorten)
        paths = {k: shorten(given[k]) for k in ("model", "image", "mask") if isinstance(given.get(k), str)}
        return given | paths

    settings[NAME] = [one(given) for given in settings[NAME]]
