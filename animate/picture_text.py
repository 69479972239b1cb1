"""Text inside a picture's file, where the web UIs look for it: a PNG's `parameters`, EXIF's UserComment elsewhere."""

from __future__ import annotations

import struct
from typing import Any

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286


def encoding(format: str, text: str, quality: int | None = None) -> dict[str, Any]:
    """What Pillow is told to write PNG, JPEG or WEBP with the parameters `text` inside."""
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        if text:
            info.add_text("parameters", text)
        return {"pnginfo": info}
    options: dict[str, Any] = {"quality": 95 if quality is None else quality}
    if format == "JPEG":
        options["subsampling"] = 0  # full colour resolution: thin coloured lines smear otherwise
    elif quality == 100:
        options["lossless"] = True
    return options | ({"exif": _exif(text)} if text else {})


def _exif(text: str) -> bytes:
    """EXIF with nothing but the UserComment: UTF-16 in the file's own byte order, big-endian, as A1111 reads it.

    Written out because Pillow gives the comment the type BYTE, which A1111's reader takes for a list of numbers.
    """
    comment = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    header, long, undefined = 8, 4, 7
    directory = 2 + 12 + 4  # bytes of one with a single entry
    pointer = struct.pack(">HHHIII", 1, EXIF_IFD, long, 1, header + directory, 0)
    entry = struct.pack(">HHHIII", 1, USER_COMMENT, undefined, len(comment), header + 2 * directory, 0)
    return b"Exif\0\0" + struct.pack(">2sHI", b"MM", 42, header) + pointer + entry + comment
