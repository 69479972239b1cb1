"""A weights file written again with adapters in it: the file's own names and layout, everything else bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..core.entry import Entry, Pages, contiguous_stride
from ..core.safetensors_stream import Planned, stream_safetensors
from .fuse import Changes, in_range, merged

Views = list[tuple[str, Entry]]
_STALE = ("modelspec.hash",)


@dataclass
class Baker:
    """Writes files with ``changes`` in them. ``places`` are where the weights lie: patch key and its entry, whatever
    view of a stored tensor that is (transposed, a third of a fused matrix, the training average of another).
    """

    places: Iterable[tuple[str, Entry]]
    changes: Changes
    written: set[str] = field(default_factory=set)
    _by_file: dict[Path, list[tuple[int, str, Entry]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, entry in self.places:
            if key in self.changes:
                self._by_file.setdefault(entry.file, []).append((entry.offset, key, entry))
        for own in self._by_file.values():
            own.sort(key=lambda item: item[0])

    def write(self, entries: Mapping[str, Entry], metadata: Mapping[str, str], out: Path) -> None:
        """A file with these tensors, one in memory at a time. FileError where a result leaves its dtype's range."""
        pages = Pages()
        plan = {
            name: Planned(entry.shape, entry.dtype, partial(self._value, pages, entry))
            for name, entry in entries.items()
        }
        kept = {key: text for key, text in metadata.items() if not key.startswith(_STALE)}
        stream_safetensors(out, plan, {"format": "pt"} | kept)

    def _value(self, pages: Pages, entry: Entry) -> Tensor:
        value = pages.tensor(entry)
        views = self._views(entry)
        if not views:
            return value
        value = value.clone(memory_format=torch.contiguous_format)
        for key, view in views:
            part = _inside(value, entry, view)
            scale = None if view.scale is None else pages.tensor(view.scale)
            part.copy_(baked(part, scale, self.changes, key))
            self.written.add(key)
        return value

    def _views(self, entry: Entry) -> Views:
        """The weights that lie in a stored tensor."""
        end = entry.offset + entry.nbytes
        return [(key, own) for at, key, own in self._by_file.get(entry.file, ()) if entry.offset <= at < end]


def baked(weight: Tensor, scale: Tensor | None, changes: Changes, key: str) -> Tensor:
    """The merged weight; one that is stored with a scale keeps it: merge(W scale) / scale, rounded once."""
    if scale is None:
        return merged(weight, changes[key], key=key)
    factor = scale.float().reshape(scale.shape + (1,) * (weight.ndim - scale.ndim))
    result = merged(weight.float() * factor, changes[key], key=key) / factor
    return in_range(result.to(weight.dtype), key)


def _inside(value: Tensor, entry: Entry, view: Entry) -> Tensor:
    """The part of ``entry``'s values that ``view`` is, sharing memory."""
    if entry.stride is not None:  # a pickle's tensor whose rows lie apart: only ever itself, or transposed
        return value if view.stride == entry.stride else value.mT
    start = (view.offset - entry.offset) // entry.dtype.itemsize
    return value.view(-1).as_strided(view.shape, view.stride or contiguous_stride(view.shape), start)
