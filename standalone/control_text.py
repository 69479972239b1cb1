"""One control as text, PREPROCESSOR:FILE[:PICTURE][:SETTING=VALUE...], or as a table of the same names.

`canny:model.safetensors:house.png:strength=0.8:end=0.6`; several pictures, or types of a ControlNet-Union, stand
between plus signs: `canny+depth:union.safetensors:a.png+b.png`. What needs no file has none: `reference:house.png`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controlnet.preprocess import PREPROCESSORS
from ..controlnet.settings import REFERENCE, Control
from ..controlnet.written import integers, keyframes, number, numbers, types
from ..core.errors import FileError, OptionError, nearest
from .images import load_image, load_mask, open_image

if TYPE_CHECKING:
    from PIL import Image

_DRIVE = re.compile(r"(?<![^:+=])([A-Za-z]):(?=[\\/])")  # the colon of C:\ separates nothing
_FIELDS = {"pass": "passes"}  # words that are no names in Python
_SETTINGS = {f.name for f in fields(Control)} - {*_FIELDS.values()} | {*_FIELDS}
_NUMBERS = {"strength", "start", "end", "sigma_start", "sigma_end", "fidelity"}
_FLAGS = {"interpolate", "joint_norm", "pool"}


def read_controls(given: Any) -> list[Control]:
    """Everything a run's `control` names: texts, tables and Controls, one or many. OptionError, FileError."""
    many = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    return [read_control(one) for one in many]


def read_control(given: str | Mapping[str, Any] | Control) -> Control:
    """One of them."""
    if isinstance(given, Control):
        return given
    return control_of(split(given) if isinstance(given, str) else given)


def from_file(path: str | Path, key: str = "control") -> list[dict[str, Any]]:
    """The tables of a JSON or TOML file: a list of them, or one under `key`."""
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        value = _toml(text, path) if path.suffix.lower() == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise FileError(f"no controls can be read from it: {error}", path, "a JSON or TOML file") from error
    value = value.get(key, [value]) if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise FileError("no list of controls", path, "tables with model, image and settings")
    return value


def _toml(text: str, path: Path) -> Any:
    try:
        import tomllib  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:
        raise FileError("TOML needs Python 3.11", path, todo="write the same as JSON") from None
    return tomllib.loads(text)


def split(text: str) -> dict[str, Any]:
    """The table that a text means. OptionError where it means none."""
    words = [word.replace("\0", ":") for word in _DRIVE.sub("\\1\0", text).split(":")]
    bare = [word for word in words if not _is_setting(word)]
    settings = [word for word in words if _is_setting(word)]
    method = bare[0]
    names = ("preprocess", "image") if method in REFERENCE else ("preprocess", "model", "image")
    if not len(bare) + (method in REFERENCE) > 1 or len(bare) > len(names):
        raise OptionError(f"control {text!r}", expected="PREPROCESSOR:FILE[:PICTURE][:SETTING=VALUE...]")
    table: dict[str, Any] = dict(zip(names, bare, strict=False))
    for word in settings:
        name, _, value = word.partition("=")
        table[name] = value
    return table


def _is_setting(word: str) -> bool:
    return bool(re.match(r"[a-z_]+=", word))


def control_of(table: Mapping[str, Any]) -> Control:
    """The control of a table: names checked, numbers read, pictures opened."""
    table = dict(table)
    method = str(table.get("preprocess", "none"))
    if method in REFERENCE:
        table |= {"model": method, "preprocess": "none"}
    if "model" not in table:
        raise OptionError(
            "a control without a model", expected=f"a file, folder or hub id, or {', '.join(REFERENCE)}"
        )
    union = _check_methods(table)
    settings = {
        _FIELDS.get(name, name): _READ.get(name, _plain)(name, value)
        for name, value in table.items()
        if name in _SETTINGS
    }
    rest = {name: value for name, value in table.items() if name not in _SETTINGS}
    _check_options(settings.get("preprocess", "none"), rest)
    given = dict(settings.pop("options", {}))
    if union and "types" not in settings:
        settings["types"] = union
    return Control(**settings, options=given | rest)


def _check_methods(table: Mapping[str, Any]) -> list[str]:
    """The preprocessors' names as types of a Union, where there may be any."""
    names = str(table.get("preprocess", "none")).split("+")
    for name in names:
        if name not in PREPROCESSORS:
            raise OptionError(
                f"unknown preprocessor {name!r}", todo=nearest(name, [*PREPROCESSORS.names(), *REFERENCE])
            )
    return [] if names == ["none"] else names


def _check_options(names: str, options: Mapping[str, Any]) -> None:
    known = {option for name in names.split("+") for option in PREPROCESSORS[name].option_names}
    for name in options:
        if name not in known:
            raise OptionError(f"unknown setting {name!r} of a control", todo=nearest(name, _SETTINGS | known))


def _plain(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        return number(name, value)
    if name in _FLAGS:
        return str(value).lower() in ("1", "true", "yes")
    return value


def _pictures(name: str, value: Any) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value).expanduser()
    paths = [path] if path.exists() else [Path(word).expanduser() for word in str(value).split("+")]
    return [open_picture(path) for path in paths]


def open_picture(path: str | Path) -> Image.Image:
    """A picture as 8-bit RGB, or RGBA where parts of it are transparent."""
    image = open_image(path)
    holes = "A" in image.mode or "transparency" in image.info
    return image.convert("RGBA") if holes else load_image(path)


def _mask(name: str, value: Any) -> Any:
    return load_mask(Path(value).expanduser()) if isinstance(value, (str, Path)) else value


_READ: dict[str, Callable[[str, Any], Any]] = {
    "image": _pictures,
    "mask": _mask,
    "keyframes": keyframes,
    "weights": numbers,
    "frames": integers,
    "types": types,
}


def portable(text: str, shorten: Callable[[str], str]) -> str:
    """A control's text with its paths in a form that works from any folder."""
    words = [word.replace("\0", ":") for word in _DRIVE.sub("\\1\0", text).split(":")]
    return ":".join(word if _is_setting(word) else "+".join(map(shorten, word.split("+"))) for word in words)


def recorded(given: Any) -> list[Any]:
    """A run's `control` as it can be written down; of objects in Python the settings, without pictures."""
    many = given if isinstance(given, (list, tuple)) else [given]
    return [_told(one) if isinstance(one, Control) else one for one in many]


def _told(control: Control) -> dict[str, Any]:
    """Settings that differ from the defaults."""
    usual = vars(Control(model=""))
    kept = {name: value for name, value in vars(control).items() if value != usual[name]}
    kept = {name: value for name, value in kept.items() if name not in ("image", "mask")}
    words = {name: kept.pop(field) for name, field in _FIELDS.items() if field in kept}
    return {**kept, **words, "model": str(control.model)}


def alone(controls: Sequence[Control], index: int) -> list[Control] | None:
    """A request's controls for picture `index` of its batch by itself."""
    return [_of_image(control, index) for control in controls] or None


def _of_image(control: Control, index: int) -> Control:
    if control.types or control.frames is not None or len(control.images) < 2:
        return control
    return replace(control, image=control.images[index])
