"""What a file is, told from its first bytes: the name's ending is never believed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from .errors import FileError

Container = Literal["safetensors", "zip", "pickle", "json"]


class NotWeights(NamedTuple):
    """First bytes of a file that holds no weights, what it is, and what to do."""

    start: bytes
    what: str
    todo: str


_CHOOSE = "give a .safetensors or .ckpt file, a diffusers folder or a hub id"
_AGAIN = "download the file again (the link may need a login or has moved)"
NOT_WEIGHTS = [
    NotWeights(
        b"version https://git-lfs", "a git-lfs pointer, not the file", "run `git lfs pull` in its folder"
    ),
    NotWeights(b"<!doctype html", "a web page, as a failed download leaves it", _AGAIN),
    NotWeights(b"<html", "a web page, as a failed download leaves it", _AGAIN),
    NotWeights(b"<?xml", "an XML document, as a failed download leaves it", _AGAIN),
    NotWeights(b"\x89png", "a PNG picture", _CHOOSE),
    NotWeights(b"\xff\xd8\xff", "a JPEG picture", _CHOOSE),
    NotWeights(b"gif8", "a GIF picture", _CHOOSE),
    NotWeights(b"riff", "a WebP picture or another RIFF file", _CHOOSE),
    NotWeights(b"%pdf", "a PDF document", _CHOOSE),
    NotWeights(b"gguf", "a GGUF file (quantised, not supported)", "give the fp16 or fp8 file instead"),
    NotWeights(b"\x89hdf", "an HDF5 file", _CHOOSE),
    NotWeights(b"\x1f\x8b", "a gzip archive", "unpack it first"),
    NotWeights(b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    NotWeights(b"rar!", "a RAR archive", "unpack it first"),
]


def sniff(path: Path) -> Container:
    """The container a weights file is in; FileError says what the file is where it holds no weights."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror or error}", where=path) from error
    if size == 0:
        raise FileError("the file is empty", where=path, todo="download or copy it again")
    kind = _container(head)
    if kind:
        return kind
    raise FileError(*_describe(head, path))


def _container(head: bytes) -> Container | None:
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head.lstrip()[:1] == b"{":
        return "json"
    return None


def _describe(head: bytes, path: Path) -> tuple[str, Path, str | None, str | None]:
    expected = "a weights file"
    text = head.lstrip().lower()
    for start, what, todo in NOT_WEIGHTS:
        if text.startswith(start):
            return f"this is {what}", path, expected, todo
    if not head.strip(b"\0"):
        return "nothing but zero bytes at its start", path, expected, "the download broke off; start it again"
    if len(head) < 16:
        return f"the file has only {len(head)} bytes", path, expected, "download or copy it again"
    return f"unknown kind of file (it starts with {head[:8]!r})", path, expected, _CHOOSE
