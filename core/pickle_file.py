"""torch's pickled weights (.ckpt, .pt, .bin, .pth): which bytes of the file each tensor is, nothing read or run.

Formats: the zip archive of torch >= 1.6 (`data.pkl`, one stored record for each storage) and the older stream of
pickles followed by the raw storages.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from .entry import Entry, contiguous_stride
from .errors import FileError
from .pickle_reader import AGAIN, Inert, Pointer, Storage, unpickle

MAGIC = 0x1950A86A20F9469CFC6C


def read_zip(path: Path) -> tuple[Any, dict[str, Entry]]:
    """(the pickled object with `Pointer`s in it, storages by key) of torch's zip format."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            names = {info.filename: info for info in archive.infolist()}
            pickled = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
            if pickled is None:
                raise FileError("a zip archive without weights", path, todo="unpack it if it holds the file")
            root = pickled[: -len("data.pkl")]
            if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
                raise FileError("written on a big-endian machine", path, expected="little-endian weights")
            records = {
                name[len(root + "data/") :]: _record(file, info, path)
                for name, info in names.items()
                if name.startswith(root + "data/")
            }
            with archive.open(pickled) as stream:
                return unpickle(stream, path), records
    except FileError:
        raise
    except Exception as error:  # a damaged archive fails in as many ways as a damaged pickle
        raise FileError(f"truncated or damaged ({error})", path, todo=AGAIN) from error


def _record(file: IO[bytes], info: zipfile.ZipInfo, path: Path) -> Entry:
    """Where a record's bytes lie: after its local header, whose name and extra field vary in length."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise FileError("its tensors are compressed", path, expected="an archive as torch.save writes it")
    file.seek(info.header_offset)
    header = file.read(30)
    start = info.header_offset + 30 + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    if header[:4] != b"PK\x03\x04" or start + info.file_size > path.stat().st_size:
        raise FileError(f"damaged at the record {info.filename!r}", path, todo=AGAIN)
    return Entry(path, start, (info.file_size,), torch.uint8)


def read_legacy(path: Path) -> tuple[Any, dict[str, Entry]]:
    """As `read_zip`, for the stream of torch < 1.6: magic, version, system, object, keys, raw storages."""
    with path.open("rb") as file:
        magic = unpickle(file, path)
        if not isinstance(magic, int) or magic != MAGIC:
            raise FileError("a pickle that torch.save did not write", path, todo="use a .safetensors version")
        for _ in range(2):
            unpickle(file, path)
        value = unpickle(file, path)
        sizes = {storage.key: storage.dtype.itemsize for storage in _storages(value)}
        keys = unpickle(file, path)
        return value, _raw_storages(file, keys, sizes, path)


def _raw_storages(file: IO[bytes], keys: list[str], sizes: dict[str, int], path: Path) -> dict[str, Entry]:
    end, records = path.stat().st_size, {}
    for key in keys:
        length = int.from_bytes(file.read(8), "little") * sizes.get(key, 1)
        start = file.tell()
        if start + length > end:
            raise FileError(
                f"truncated: storage {key} ends at byte {start + length} of {end}", path, todo=AGAIN
            )
        records[key] = Entry(path, start, (length,), torch.uint8)
        file.seek(length, 1)
    return records


def _storages(value: Any) -> list[Storage]:
    if isinstance(value, Pointer):
        return [value.storage]
    if isinstance(value, Inert):
        return _storages(value.state)
    items = (
        dict.values(value)
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple | set)
        else ()
    )
    return [storage for item in items for storage in _storages(item)]


def resolve(pointer: Pointer, name: str, records: dict[str, Entry]) -> Entry:
    """The entry a pointer means; FileError where it reaches outside its storage."""
    storage, dtype = pointer.storage, pointer.dtype
    record = records.get(storage.key)
    shape, stride = pointer.shape, pointer.stride
    bad = min((*shape, *stride, pointer.offset, storage.shift), default=0) < 0 or len(shape) != len(stride)
    last = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=False))
    start = (storage.shift * storage.dtype.itemsize) + pointer.offset * dtype.itemsize
    if record is None or bad or start + last * dtype.itemsize > record.nbytes:
        where = None if record is None else record.file
        raise FileError(f"tensor {name!r} lies outside its data: the file is truncated", where, todo=AGAIN)
    plain = stride == contiguous_stride(shape) or record.numel == 0 or _span_is_plain(shape, stride)
    return Entry(record.file, record.offset + start, shape, dtype, None if plain else stride)


def _span_is_plain(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether only axes of length 1 have an unusual stride."""
    usual = contiguous_stride(shape)
    return all(n == 1 or a == b for n, a, b in zip(shape, stride, usual, strict=True))
