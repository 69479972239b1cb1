"""The settings of an image prompt from texts and plain values: numbers read, pictures and features opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controlnet.ip_features import Features, load_features
from ..controlnet.ip_settings import ImagePrompt
from ..controlnet.written import layers
from ..core.errors import FileError, OptionError, nearest
from .images import load_image, load_mask

if TYPE_CHECKING:
    from PIL import Image

FEATURES = (".safetensors", ".ipadpt", ".pt", ".bin")  # endings of files with features instead of pictures


def prompt_of(table: Mapping[str, Any]) -> ImagePrompt:
    """The image prompt of a table's settings, texts read and files opened."""
    settings: dict[str, Any] = {}
    for name, value in table.items():
        if name not in _READ:
            raise OptionError(f"unknown setting {name!r} of an image prompt", todo=nearest(name, _READ))
        settings |= _READ[name](name, value)
    return ImagePrompt.of(**settings)


Reader = Callable[[str, Any], dict[str, Any]]


def read_as(name: str, value: Any, kind: type) -> Any:
    """A value as a number. OptionError where it is none."""
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} {value!r}", expected="a number") from None


def _number(name: str, value: Any) -> dict[str, Any]:
    return {name: read_as(name, value, float)}


def _text(name: str, value: Any) -> dict[str, Any]:
    return {"weight_type" if name == "type" else name: str(value)}


def _flag(name: str, value: Any) -> dict[str, Any]:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise OptionError(f"{name} {value!r}", expected="true or false")
    return {name: known[str(value).lower()]}


def _weights(name: str, value: Any) -> dict[str, Any]:
    words = value.split(",") if isinstance(value, str) else value
    numbers = [read_as(name, word, float) for word in words] if isinstance(words, (list, tuple)) else None
    if numbers is None:
        return _number(name, value)
    return {name: numbers if len(numbers) > 1 else numbers[0]}


def _layers(name: str, value: Any) -> dict[str, Any]:
    return {name: layers(name, value)}


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
