"""--ip-adapter: pictures that say what it looks like, and what finished pictures keep of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parser import Parser

Settings = dict[str, Any]
NAME = "ip_adapter"
_PATHS = ("model", "image", "negative", "mask", "face", "encoder")


def add_ip_adapter(parser: Parser) -> None:
    """Image prompts."""
    add = parser.add_argument_group("image prompts (IP-Adapter)").add_argument
    add(
        "--ip-adapter",
        dest=NAME,
        action="append",
        metavar="FILE:IMAGE",
        help="such as plus.safetensors:cat.png:weight=0.7:type=style:end=0.8; several images stand between plus "
        "signs; settings: docs/ip-adapter.md; @FILE reads JSON or TOML; may be repeated",
    )


def check(settings: Settings) -> None:
    """Reads every image prompt and its pictures, before any model loads; @FILE becomes what stands in it."""
    if not settings.get(NAME):
        return
    from ..control_text import from_file
    from ..ip_adapter_text import read_request

    given: list[Any] = []
    for one in settings[NAME]:
        given += from_file(one[1:], NAME) if isinstance(one, str) and one.startswith("@") else [one]
    for one in given:
        read_request(one)
    settings[NAME] = given


def portable(settings: Settings, shorten: Callable[[str], str]) -> None:
    """Paths in a picture's settings in a form that works from any folder."""
    if not settings.get(NAME):
        return
    from ..ip_adapter_text import portable as text

    def one(given: Any) -> Any:
        if isinstance(given, str):
            return text(given, shorten)
        paths = {k: shorten(v) for k, v in given.items() if k in _PATHS and isinstance(v, str)}
        return given | paths

    settings[NAME] = [one(given) for given in settings[NAME]]
