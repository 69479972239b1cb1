"""Pictures out: file names from a pattern, formats with their settings inside, and no half-written file ever.

A picture is written under a temporary name in its own folder and published in one step. An existing file is
never replaced: the name is numbered up ("cat-2.png").
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import shutil
import string
import struct
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..core.errors import FileError, OptionError, nearest
from .images import open_image

DEFAULT_NAME = "{prompt}-{seed}"
DEFAULT_PATTERN = "outputs/" + DEFAULT_NAME
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
FIELDS = (
    "seed",
    "index",
    "prompt",
    "negative",
    "date",
    "time",
    "model",
    "sampler",
    "schedule",
    "steps",
    "cfg",
    "width",
    "height",
)
_WHOLE = ("seed", "index", "steps", "width", "height")
_FOREIGN = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".heic", ".svg", ".pdf", ".ppm", ".tga"}
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_JPEG_EXIF_LIMIT = 65_000  # bytes: a JPEG segment's length is 16 bits
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_NO_LINKS = {
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
    errno.EACCES,
}


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


def target(pattern: str | None, format: str | None = None, quality: int | None = None) -> Target:
    """Read `--out`, `--format` and `--quality` together. OptionError where they contradict each other."""
    pattern = pattern or DEFAULT_PATTERN
    if pattern.endswith(("/", os.sep)) or os.path.isdir(os.path.expanduser(pattern)):
        pattern = os.path.join(pattern, DEFAULT_NAME)
    stem, extension = os.path.splitext(pattern)
    named = extension[1:].lower()
    if named not in FORMATS:
        if extension.lower() in _FOREIGN:
            raise OptionError(f"cannot write {extension} files", "--out", "one of " + ", ".join(FORMATS))
        stem, extension, named = pattern, f".{format or 'png'}", format or "png"
    elif format and FORMATS[format] != FORMATS[named]:
        raise OptionError(f"--out says {extension} but --format {format}", todo="give only one of them")
    if quality is not None and FORMATS[named] == "PNG":
        raise OptionError("PNG has no quality, it is lossless", "--quality", "--format jpeg or webp with it")
    _check_fields(stem)
    return Target(stem, FORMATS[named], quality, extension)


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


def check_folder(folder: Path, needed: int = 1 << 20) -> None:
    """Make `folder` and prove that a file can be written there, before hours are spent on what goes there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sigmagraft-"):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _write_error(error, folder) from error
    if free < needed:
        raise FileError(
            f"only {free:,} bytes are free here", folder, f"{needed:,}", "free some space or change --out"
        )


def save(image: Image.Image, path: Path, target: Target, text: str = "") -> Path:
    """Write `image` with its parameters `text`; the path it got, numbered up where `path` was taken.
    FileError.
    """
    encoded = io.BytesIO()  # in memory first: Pillow hides the reason when the disk refuses
    image.save(encoded, target.format, **_encoding(target, text))
    temporary = path.with_name(f".sigmagraft-{os.getpid()}-{time.monotonic_ns()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(encoded.getvalue())
                file.flush()
                os.fsync(file.fileno())
            return _publish(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise _write_error(error, path) from error


def replace(image: Image.Image, path: Path) -> None:
    """Write a PNG under a name of our own that changes again and again (a preview); readers see the old or
    the new.
    """
    temporary = path.with_name(f".sigmagraft-{os.getpid()}-preview.part")
    try:
        try:
            image.save(temporary, "PNG", compress_level=1)
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise _write_error(error, path) from error


def _publish(temporary: Path, path: Path) -> Path:
    for number in range(1, 1_000_000):
        final = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if _rename(temporary, final):
            return final
    raise FileError("a million pictures have this name", path, todo="change --out")


def _rename(temporary: Path, final: Path) -> bool:
    """Give the finished file its name in one step; False when the name is taken. A hard link never
    replaces.
    """
    if os.path.lexists(final):
        return False
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(temporary, final)  # FAT and some network folders have no links
    return True


def _encoding(target: Target, text: str) -> dict[str, Any]:
    if target.format == "PNG":
        info = PngInfo()
        if text:
            info.add_text("parameters", text)
        return {"pnginfo": info}
    options: dict[str, Any] = {"quality": 95 if target.quality is None else target.quality}
    if target.format == "JPEG":
        options["subsampling"] = 0  # full colour resolution: thin coloured lines smear otherwise
    elif target.quality == 100:
        options["lossless"] = True
    return options | ({"exif": _exif(text)} if text else {})


def _exif(text: str) -> bytes:
    """EXIF with nothing but the UserComment: UTF-16 in the file's own byte order, big-endian, as A1111 reads it.

    Written out because Pillow gives the comment the type BYTE, which A1111's reader takes for a list of numbers.
    """
    comment = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    header, long, undefined = 8, 4, 7
    directory = 2 + 12 + 4  # bytes of one with a single entry
    pointer = struct.pack(">HHHIII", 1, _EXIF_IFD, long, 1, header + directory, 0)
    entry = struct.pack(">HHHIII", 1, _USER_COMMENT, undefined, len(comment), header + 2 * directory, 0)
    return b"Exif\0\0" + struct.pack(">2sHI", b"MM", 42, header) + pointer + entry + comment


def check_text(target: Target, text: str) -> None:
    """OptionError when `text` cannot travel in the format: a JPEG holds 64 kB of it."""
    if target.format == "JPEG" and 2 * len(text) > _JPEG_EXIF_LIMIT:
        raise OptionError(
            f"the settings take {2 * len(text):,} bytes, too many for a JPEG",
            expected=f"at most {_JPEG_EXIF_LIMIT:,}",
            todo="use --format png or webp",
        )


def read_text(path: str | Path) -> str:
    """The parameters text inside a picture. FileError where there is none."""
    image = open_image(path)
    text = image.info.get("parameters")
    if isinstance(text, str) and text.strip():
        return text
    comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if isinstance(comment, bytes) and len(comment) > 8:
        return _comment(comment[:8], comment[8:])
    todo = "this one holds ComfyUI's graph, which is another language" if "workflow" in image.info else None
    raise FileError("no generation settings inside", path, "a picture saved with its parameters text", todo)


def _comment(code: bytes, body: bytes) -> str:
    if code != b"UNICODE\0":
        return body.decode("utf-8", "replace")
    # The standard names no byte order; Latin text shows it by where its zero bytes are.
    little = body[1::2].count(0) > body[0::2].count(0)
    return body.decode("utf-16-le" if little else "utf-16-be", "replace")


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or change --out",
    errno.EDQUOT: "the disk quota is used up; free some space or change --out",
    errno.EACCES: "no permission to write here; change --out or the folder's permissions",
    errno.EPERM: "no permission to write here; change --out or the folder's permissions",
    errno.EROFS: "this disk is read-only; change --out",
    errno.ENOTDIR: "a part of this path is a file, not a folder; change --out",
    errno.EEXIST: "a file has the name of the folder; change --out",
    errno.ENAMETOOLONG: "the name is too long; shorten --out",
}


def _write_error(error: OSError, path: Path) -> FileError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return FileError(f"cannot write: {reason}", path, todo=_ADVICE.get(error.errno or 0, "change --out"))
