"""File names of pictures: a pattern with fields, a format, and what no file system minds."""

from __future__ import annotations

import itertools
import os
import re
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import OptionError, nearest

DEFAULT_NAME = "{prompt}-{seed}"
DEFAULT_PATTERN = "outputs/" + DEFAULT_NAME
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
_WHOLE = ("seed", "index", "steps", "width", "height")
FIELDS = (*_WHOLE, "prompt", "negative", "date", "time", "model", "sampler", "schedule", "cfg")
_FOREIGN = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".heic", ".svg", ".pdf", ".ppm", ".tga"}
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


@dataclass(frozen=True)
class Target:
    """Where pictures go: a folder, a name pattern without extension, a format and its quality."""

    pattern: str
    format: str
    quality: int | None
    extension: str
    started: float = field(default_factory=time.time)

    def path(self, values: Mapping[str, Any]) -> Path:
        """The file name which `values` (see FIELDS) give; it may exist already."""
        moment = time.localtime(self.started)
        known = {
            "date": time.strftime("%Y-%m-%d", moment),
            "time": time.strftime("%H-%M-%S", moment),
            **values,
        }
        name = self.pattern.format_map({key: _part(key, known.get(key, 0)) for key in FIELDS})
        return Path(os.path.expanduser(name) + self.extension)

    @property
    def folder(self) -> Path:
        """The folder all pictures are in: what the pattern says before its first field."""
        parts = Path(os.path.expanduser(self.pattern)).parent.parts
        return Path(*itertools.takewhile(lambda part: "{" not in part, parts))


def target(
    pattern: str | None,
    format: str | None = None,
    quality: int | None = None,
    formats: Mapping[str, str] = FORMATS,
) -> Target:
    """Read `--out`, `--format` and `--quality` together. OptionError where they contradict each other.

    ``formats``: extension -> what is written; the first is the usual one.
    """
    usual = next(iter(formats))
    pattern = pattern or DEFAULT_PATTERN
    if pattern.endswith(("/", os.sep)) or os.path.isdir(os.path.expanduser(pattern)):
        pattern = os.path.join(pattern, DEFAULT_NAME)
    stem, extension = os.path.splitext(pattern)
    named = extension[1:].lower()
    if named not in formats:
        if extension.lower() in _FOREIGN:
            raise OptionError(f"cannot write {extension} files", "--out", "one of " + ", ".join(formats))
        stem, extension, named = pattern, f".{format or usual}", format or usual
    elif format and formats[format] != formats[named]:
        raise OptionError(f"--out says {extension} but --format {format}", todo="give only one of them")
    if quality is not None and formats[named] == "PNG":
        raise OptionError("PNG has no quality, it is lossless", "--quality", "--format jpeg or webp with it")
    _check_fields(stem)
    return Target(stem, formats[named], quality, extension)


def _check_fields(pattern: str) -> None:
    try:
        fields = list(string.Formatter().parse(pattern))
        pattern.format_map({name: _part(name, 0) for name in FIELDS})
    except KeyError as error:
        name = str(error.args[0])
        raise OptionError(f"unknown field {{{name}}}", "--out", todo=nearest(name, FIELDS)) from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise OptionError(
            f"cannot read the pattern {pattern!r}: {error}", "--out", "such as {seed}-{index:03}"
        ) from None
    for _, name, _, conversion in fields:
        if name is not None and (name not in FIELDS or conversion):
            raise OptionError(f"unknown field {{{name}}}", "--out", todo=nearest(name, FIELDS))


def _part(name: str, value: Any) -> int | str:
    """A value fit for a file name: whole numbers as they are ({seed:010} works), text cleaned and cut."""
    if name in _WHOLE:
        return int(value)
    text = re.sub(r"[^\w.+=,()-]+", "-", str(value))[:60].strip("-. ")
    while len(text.encode()) > 120:
        text = text[:-1]
    return text + "_" if _WINDOWS_DEVICES.match(text) else text or "_"
