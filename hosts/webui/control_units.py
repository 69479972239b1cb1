"""What a person asks of one unit of the panel: read from its fields, written into a picture, made into an ask."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from ...controlnet.ip_settings import ImagePrompt
from ...controlnet.preprocess import PREPROCESSORS
from ...controlnet.settings import Control
from ...controlnet.written import integers, keyframes, layers, number, numbers, types
from ...core.errors import OptionError, nearest
from ..control_words import options_of
from .control_files import NONE
from .pairs import pairs

KEY = "SigmaGraft Control"
PASSES = ("both", "base", "first", "hires")  # first is base by another name
_FLAGS = {"interpolate", "joint_norm", "pool", "each", "tiled"}
_READ: dict[str, Any] = {
    "keyframes": keyframes,
    "weights": numbers,
    "types": types,
    "frames": integers,
    "layers": layers,
}
_TEXTS = {"mode", "resize", "weight_type", "combine", "scaling", "crop"}
_NUMBERS = {"sigma_start", "sigma_end", "fidelity", "composition", "face_strength"}
OWN = ("pass", "encoder", "face", "vision")  # what means something to the panel alone


@dataclass(frozen=True)
class Unit:
    """The fields of one unit, in the order of the API's args."""

    image: Any = None
    mask: Any = None
    file: str = NONE
    preprocessor: str = "none"
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    settings: str = ""

    @property
    def wanted(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.file) and self.file != NONE

    def words(self) -> dict[str, str]:
        """The settings by name, as they are written. OptionError."""
        return dict(pairs(self.settings, KEY))

    def told(self) -> dict[str, Any]:
        """What a picture keeps of it: everything but pictures."""
        usual = Unit()
        kept = [f.name for f in fields(self) if f.name not in ("image", "mask")]
        return {name: getattr(self, name) for name in kept if getattr(self, name) != getattr(usual, name)}


def units_of(args: Sequence[Any]) -> list[Unit]:
    """The units of a script's args: objects by name (the API), or fields one after the other (the page)."""
    names = [f.name for f in fields(Unit)]
    if any(isinstance(arg, Mapping) and "file" in arg for arg in args):
        return [_of_table(arg) for arg in args if isinstance(arg, Mapping)]
    found = [
        dict(zip(names, args[at : at + len(names)], strict=False)) for at in range(0, len(args), len(names))
    ]
    return [Unit(**{name: value for name, value in one.items() if value is not None}) for one in found]


def _of_table(table: Mapping[str, Any]) -> Unit:
    known = [f.name for f in fields(Unit)]
    for name in table:
        if name not in known:
            raise OptionError(f"{name!r} of a control unit", KEY, todo=nearest(str(name), known))
    return Unit(**{name: value for name, value in table.items() if value is not None})


def written(units: Sequence[Unit]) -> str:
    """The value of the picture's key."""
    return json.dumps([unit.told() for unit in units if unit.wanted], ensure_ascii=False)


def read_back(text: Any) -> list[dict[str, Any]]:
    """The same from a picture; nothing from what nobody wrote so."""
    try:
        found = json.loads(text or "[]")
    except (TypeError, ValueError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def settings_of(unit: Unit, kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings of a Control or an ImagePrompt, options of the preprocessor). OptionError for what neither has."""
    known = {"weights", *(f.name for f in fields(kind))} & {*_FLAGS, *_READ, *_TEXTS, *_NUMBERS}
    options = [name for name in unit.preprocessor.split("+") for name in PREPROCESSORS[name].option_names]
    settings: dict[str, Any] = {}
    rest: list[str] = []
    for name, value in unit.words().items():
        if name in known:
            settings[name] = _value(name, value)
        elif name in options and kind is Control:
            rest.append(f"{name}={value}")
        elif name not in OWN:
            todo = nearest(name, [*known, *OWN, *options])
            raise OptionError(f"setting {name!r} of a control unit", unit.file, todo=todo)
    return settings, options_of(unit.preprocessor, ", ".join(rest))


def _value(name: str, value: str) -> Any:
    if name in _READ:
        return _READ[name](name, value)
    if name in _NUMBERS:
        return number(name, value)
    return value.lower() in ("1", "true", "yes") if name in _FLAGS else value


def control_of(unit: Unit, model: Any, fallback: Sequence[Image.Image], union: bool = False) -> Control:
    """The unit as a control; without a picture it looks at the ones that are redrawn."""
    settings, options = settings_of(unit, Control)
    if union and unit.preprocessor != "none":
        settings.setdefault("types", unit.preprocessor.split("+"))
    return Control(
        model=model,
        image=pictures(unit.image) or list(fallback),
        preprocess=unit.preprocessor,
        options=options,
        strength=unit.weight,
        mask=_mask(unit.mask),
        **_range(unit),
        **settings,
    )


def prompt_of(unit: Unit, **more: Any) -> ImagePrompt:
    """The unit as an image prompt."""
    settings, _ = settings_of(unit, ImagePrompt)
    many = settings.pop("weights", None)
    return ImagePrompt(
        images=pictures(unit.image),
        weight=many or unit.weight,
        mask=_mask(unit.mask),
        **_range(unit),
        **settings,
        **more,
    )


def _range(unit: Unit) -> dict[str, float]:
    return {"start": float(unit.start), "end": float(unit.end)}


def _mask(value: Any) -> Image.Image | None:
    found = pictures(value)
    return found[0].convert("L") if found else None


def pictures(value: Any) -> list[Image.Image]:
    """Of the page (pictures, arrays, a sketch with its layers) and of the API (base64, one or a list)."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, (list, tuple)):
        return [picture for one in value for picture in pictures(one)]
    if isinstance(value, Mapping):
        return pictures(value.get("background", value.get("image", value.get("composite"))))
    if isinstance(value, str):
        return [_decoded(value)]
    return [value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value))]


def _decoded(text: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text.rpartition(",")[2], validate=True)))
        image.load()
    except (OSError, ValueError) as error:
        raise OptionError("a control's picture", KEY, "a picture in base64", str(error)) from None
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
