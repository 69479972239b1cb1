"""One image prompt as text, FILE:PICTURE[+PICTURE...][:SETTING=VALUE...], or as a table of the same names.

`plus.safetensors:cat.png:weight=0.7:type=style:end=0.8`; a file of features may stand in the place of pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controlnet.ip_features import Features, load_features
from ..controlnet.ip_settings import ImagePrompt
from ..core.errors import FileError, OptionError, nearest
from .images import load_image

if TYPE_CHECKING:
    from PIL import Image

    from ..controlnet.ip_adapter import IPAdapter

FEATURES = (".safetensors", ".ipadpt", ".pt", ".bin")  # endings of files with features instead of pictures
_DRIVE = re.compile(r"(?<![^:+=])([A-Za-z]):(?=[\\/])")  # the colon of C:\ separates nothing
_FILES = ("image", "negative", "mask", "face", "encoder")
_BARE = ("each", "tiled")
_PLAIN = (str, int, float, list, dict)  # what a JSON file may hold


@dataclass(frozen=True)
class ImageRequest:
    """An image prompt and the adapter it is for: a path, a hub id or one that is loaded.

    ``encoder`` is its image encoder where that does not lie beside it; ``version`` 2 is a FaceID plus v2 whose name
    does not say so; ``lora`` is the strength of FaceID's own low-rank change of the model.
    """

    model: str | Path | IPAdapter
    prompt: ImagePrompt
    encoder: str | Path | None = None
    version: int | None = None
    lora: float = 1.0
    given: str | dict[str, Any] | None = None  # what it was read from, where that can be written down

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
    for name, kind in (("version", int), ("lora", float)):
        if name in own:
            own[name] = _read(name, own[name], kind)
    return ImageRequest(model, prompt_of(table), given=given, **own)


def prompt_of(table: Mapping[str, Any]) -> ImagePrompt:
    """The image prompt of a table's settings, texts read and files opened."""
    settings: dict[str, Any] = {}
    for name, value in table.items():
        if name not in _READ:
            raise OptionError(f"unknown setting {name!r} of an image prompt", todo=nearest(name, _READ))
        settings |= _READ[name](name, value)
    return ImagePrompt.of(**settings)


Reader = Callable[[str, Any], dict[str, Any]]


def _read(name: str, value: Any, kind: type) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} {value!r}", expected="a number") from None


def _number(name: str, value: Any) -> dict[str, Any]:
    return {name: _read(name, value, float)}


def _text(name: str, value: Any) -> dict[str, Any]:
    return {"weight_type" if name == "type" else name: str(value)}


def _flag(name: str, value: Any) -> dict[str, Any]:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise OptionError(f"{name} {value!r}", expected="true or false")
    return {name: known[str(value).lower()]}


def _weights(name: str, value: Any) -> dict[str, Any]:
    words = value.split(",") if isinstance(value, str) else value
    numbers = [_read(name, word, float) for word in words] if isinstance(words, (list, tuple)) else None
    if numbers is None:
        return _number(name, value)
    return {name: numbers if len(numbers) > 1 else numbers[0]}


def _layers(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: {key: _read(name, factor, float) for key, factor in value.items()}}
    pairs = [word.partition("=") for word in value.split(",")]
    if any(not equals for _, equals, _ in pairs):
        raise OptionError(f"{name} {value!r}", expected="such as input8=1,output1=0.5")
    return {name: {key.strip(): _read(name, factor, float) for key, _, factor in pairs}}


def _many(value: Any) -> list[Any]:
    if isinstance(value, str):
        whole = Path(value).expanduser().exists()
        return [value] if whole else [word for word in value.split("+") if word]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _pictures(name: str, value: Any) -> dict[str, Any]:
    """Pictures, or one file of features in their place."""
    negative = name == "negative"
    given = _many(value)
    if len(given) == 1 and (isinstance(given[0], Features) or str(given[0]).lower().endswith(FEATURES)):
        features = given[0] if isinstance(given[0], Features) else load_features(Path(given[0]).expanduser())
        return {"negative_features" if negative else "features": features}
    return {"negative" if negative else "images": [_picture(one) for one in given]}


def _picture(value: Any) -> Image.Image:
    return load_image(Path(value).expanduser()) if isinstance(value, (str, Path)) else value


def _mask(name: str, value: Any) -> dict[str, Any]:
    from .images import load_mask

    return {name: load_mask(Path(value).expanduser()) if isinstance(value, (str, Path)) else value}


def _face(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, (str, Path)):
        return {name: value}
    features = load_features(Path(value).expanduser())
    if features.face is None:
        raise FileError("it holds no face embeddings", value, "a tensor [n, 512]")
    return {name: features.face}


_READ: dict[str, Reader] = {
    "image": _pictures,
    "images": _pictures,
    "negative": _pictures,
    "weight": _weights,
    "type": _text,
    "weight_type": _text,
    "composition": _number,
    "layers": _layers,
    "combine": _text,
    "scaling": _text,
    "each": _flag,
    "tiled": _flag,
    "crop": _text,
    "face": _face,
    "face_strength": _number,
    "mask": _mask,
    "start": _number,
    "end": _number,
    "sigma_start": _number,
    "sigma_end": _number,
}
