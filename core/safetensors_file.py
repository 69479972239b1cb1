"""The safetensors container: an 8-byte length, a JSON header, then the tensors' bytes (its README)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .entry import Entry
from .errors import FileError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "C64": torch.complex64,
}
_BROKEN = "the header is damaged"
_AGAIN = "download or copy the file again"


def read_safetensors(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The entries and the metadata of a file; only the header is read. FileError where it is damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise FileError(f"truncated: a header of {length} bytes in a file of {size}", path, todo=_AGAIN)
        header = _parse(file.read(length), path)
    metadata = header.pop("__metadata__", None)
    start = 8 + length
    entries = {name: _entry(name, item, path, start, size) for name, item in header.items()}
    if not isinstance(metadata, dict):
        metadata = {}
    return entries, {str(key): str(value) for key, value in metadata.items()}


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise FileError(f"{_BROKEN} ({error})", where=path, todo=_AGAIN) from error
    if not isinstance(header, dict):
        raise FileError(_BROKEN, where=path, expected="a JSON object", todo=_AGAIN)
    return header


def _entry(name: str, item: Any, path: Path, start: int, size: int) -> Entry:
    try:
        kind, shape = item["dtype"], tuple(int(n) for n in item["shape"])
        begin, end = (int(n) for n in item["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{_BROKEN} at tensor {name!r}", where=path, todo=_AGAIN) from error
    if kind not in DTYPES:
        raise FileError(f"tensor {name!r} is stored as {kind}", path, "one of " + ", ".join(DTYPES))
    dtype = DTYPES[kind]
    if min(shape, default=0) < 0 or begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        what = f"{_BROKEN} at tensor {name!r}: {end - begin} bytes for shape {shape}"
        raise FileError(what, path, todo=_AGAIN)
    if start + end > size:
        raise FileError(f"truncated: tensor {name!r} ends at byte {start + end} of {size}", path, todo=_AGAIN)
    return Entry(path, start + begin, shape, dtype)


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file under a temporary name and publish it in one step. FileError where that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, dict(metadata))
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise FileError(f"cannot write: {error}", path, todo="choose another place") from None
