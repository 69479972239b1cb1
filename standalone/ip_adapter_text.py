"""One image prompt as text, FILE:PICTURE[+PICTURE...][:SETTING=VALUE...], or as a table of the same names.

`plus.safetensors:cat.png:weight=0.7:type=style:end=0.8`; a file of features may stand in the place of pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controlnet.ip_settings import ImagePrompt
from ..controlnet.settings import check_pass
from ..core.errors import OptionError
from .ip_adapter_values import prompt_of, read_as

if TYPE_CHECKING:
    from ..controlnet.ip_adapter import IPAdapter

_DRIVE = re.compile(r"(?<![^:+=])([A-Za-z]):(?=[\\/])")  # the colon of C:\ separates nothing
_FILES = ("image", "negative", "mask", "face", "encoder")
_BARE = ("each", "tiled")
_PLAIN = (str, int, float, list, dict)  # what a JSON file may hold


@dataclass(frozen=True)
class ImageRequest:
    """An image prompt and the adapter it is for: a path, a hub id or one that is loaded.

    ``encoder`` is its image encoder where that does not lie beside it; ``version`` 2 is a FaceID plus v2 whose name
    does not say so; ``lora`` is the strength of FaceID's own low-rank change of the model; ``passes`` is where it acts
    in hires fix: both, base or hires (as a word: pass=hires).
    """

    model: str | Path | IPAdapter
    prompt: ImagePrompt
    encoder: str | Path | None = None
    version: int | None = None
    lora: float = 1.0
    passes: str = "both"
    given: str | dict[str, Any] | None = None  # what it was read from, where that can be written down

    def __post_init__(self) -> None:
        check_pass(self.passes)

    @property
    def recorded(self) -> str | dict[str, Any]:
        """What a picture's settings say of it; made of objects in Python it is named, not repeatable."""
        if self.given is not None:
            return self.given
        model = self.model if isinstance(self.model, (str, Path)) else self.model.file.source
        return f"{model}:(pictures given in Python):weight={','.join(f'{w:g}' for w in self.prompt.weights)}"


def read_request(given: str | Mapping[str, Any] | ImageRequest) -> ImageRequest:
    """From text or a table {"model", "image", settings}; OptionError, FileError for what cannot be read."""
    if isinstance(given, ImageRequest):
        return given
    if isinstance(given, str):
        return _of(split(given), given)
    plain = all(isinstance(value, _PLAIN) for value in given.values())
    return _of(dict(given), dict(given) if plain else None)


def read_requests(given: Any, batch: int) -> list[ImageRequest] | None:
    """Everything a run's `ip_adapter` names, read and checked against the number of pictures; None for none."""
    if given is None:
        return None
    requests = [read_request(one) for one in (given if isinstance(given, (list, tuple)) else [given])]
    for one in requests:
        one.prompt.check_batch(batch)
    return requests


def split(text: str) -> dict[str, Any]:
    words = _words(text)
    if len(words) < 2 or not words[0]:
        raise OptionError(f"image prompt {text!r}", expected="FILE:PICTURE[:SETTING=VALUE...]")
    table: dict[str, Any] = {"model": words[0], **({"image": words[1]} if words[1] else {})}
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if not equals and name not in _BARE:
            raise OptionError(f"{word!r} in an image prompt", expected="SETTING=VALUE, such as weight=0.7")
        table[name] = value if equals else True
    return table


def _words(text: str) -> list[str]:
    return [word.replace("\0", ":") for word in _DRIVE.sub("\\1\0", text).split(":")]


def portable(text: str, shorten: Callable[[str], str]) -> str:
    """The text with its paths in a form that works from any folder."""

    def short(word: str) -> str:
        name, equals, value = word.partition("=")
        if equals and name not in _FILES:
            return word
        return name + equals + _shortened(value, shorten) if equals else _shortened(word, shorten)

    return ":".join(map(short, _words(text)))


def _shortened(paths: str, shorten: Callable[[str], str]) -> str:
    return "+".join(map(shorten, paths.split("+")))


def _of(table: dict[str, Any], given: str | dict[str, Any] | None) -> ImageRequest:
    model = table.pop("model", None)
    if model is None:
        raise OptionError(
            "an image prompt without a model", expected="an IP-Adapter's file, folder or hub id"
        )
    own = {name: table.pop(name) for name in ("encoder", "version", "lora") if name in table}
    own |= {"passes": str(table.pop("pass"))} if "pass" in table else {}
    for name, kind in (("version", int), ("lora", float)):
        if name in own:
            own[name] = read_as(name, own[name], kind)
    return ImageRequest(model, prompt_of(table), given=given, **own)
