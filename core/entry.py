"""Where one tensor lies in a file: enough to rename, reshape, transpose or split it without reading it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .errors import FileError


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that stays in its file: `offset` in bytes from the file's start, `stride` in elements.

    A stride of None means contiguous. `scale` is the tensor a stored fp8 weight is multiplied with.
    """

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...] | None = None
    scale: Entry | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes these elements take in the file."""
        return self.numel * self.dtype.itemsize

    def reshape(self, shape: Iterable[int]) -> Entry:
        """The same elements in another shape; ValueError where the number of elements differs."""
        shape = tuple(shape)
        if math.prod(shape) != self.numel or self.stride is not None:
            raise ValueError(f"{self.shape} cannot become {shape}")
        return replace(self, shape=shape)

    def transpose(self) -> Entry:
        """A matrix with its two axes exchanged."""
        rows, columns = self.shape
        row_step, column_step = self.stride or (columns, 1)
        return replace(self, shape=(columns, rows), stride=(column_step, row_step))

    def split(self, parts: int) -> list[Entry]:
        """`parts` equal slices along the first axis."""
        if self.stride is not None or self.shape[0] % parts:
            raise ValueError(f"{self.shape} cannot be cut into {parts}")
        shape = (self.shape[0] // parts, *self.shape[1:])
        step = math.prod(shape) * self.dtype.itemsize
        return [replace(self, shape=shape, offset=self.offset + i * step) for i in range(parts)]


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The row-major stride of a shape, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class Pages:
    """The mapped files of one load; a tensor taken from it is a view of the file, nothing is read until used.

    The mapping is private: writing into such a tensor changes memory, never the file.
    """

    def __init__(self) -> None:
        self._files: dict[Path, Tensor] = {}

    def tensor(self, entry: Entry) -> Tensor:
        """A CPU tensor of `entry` in the file's dtype, unscaled."""
        if entry.numel == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        count = entry.numel if entry.stride is None else _span(entry)
        flat = self._bytes(entry.file)[entry.offset : entry.offset + count * entry.dtype.itemsize]
        if entry.offset % entry.dtype.itemsize:
            flat = flat.clone()  # a view must start at a multiple of its element size
        flat = flat.view(entry.dtype)
        if entry.stride is None:
            return flat.view(entry.shape)
        return flat.as_strided(entry.shape, entry.stride, flat.storage_offset())

    def _bytes(self, file: Path) -> Tensor:
        if file not in self._files:
            try:
                size = file.stat().st_size
                storage = torch.UntypedStorage.from_file(str(file), shared=False, nbytes=size)
            except (OSError, RuntimeError) as error:
                raise FileError(f"cannot be mapped: {error}", where=file) from error
            self._files[file] = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (size,), (1,))  # type: ignore[call-overload]
        return self._files[file]


def _span(entry: Entry) -> int:
    """Elements from the first to the last one that a strided entry reaches."""
    return 1 + sum((n - 1) * step for n, step in zip(entry.shape, entry.stride or (), strict=True))
