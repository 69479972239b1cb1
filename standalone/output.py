"""Picture files: formats with their settings inside, and no half-written file ever.

A picture is written under a temporary name in its own folder and published in one step. An existing file is
never replaced: the name is numbered up ("cat-2.png").
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..animate import picture_text
from ..core.errors import FileError, OptionError
from .images import open_image
from .naming import Target

_JPEG_EXIF_LIMIT = 65_000  # bytes: a JPEG segment's length is 16 bits
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
    image.save(encoded, target.format, **encoding(target, text))
    return write(encoded.getvalue(), path)


def write(data: bytes, path: Path) -> Path:
    """Write a finished file; the path it got, numbered up where `path` was taken. FileError."""
    temporary = path.with_name(f".sigmagraft-{os.getpid()}-{time.monotonic_ns()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
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


def encoding(target: Target, text: str) -> dict[str, Any]:
    """What Pillow is told to write a format with the parameters `text` inside."""
    return picture_text.encoding(target.format, text, target.quality)


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
    comment = image.getexif().get_ifd(picture_text.EXIF_IFD).get(picture_text.USER_COMMENT)
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
