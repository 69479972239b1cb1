"""A weights file or a sharded set: names, shapes and dtypes at once, tensors only when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .entry import Entry, Pages
from .errors import FileError
from .pickle_file import read_legacy, read_zip, resolve
from .pickle_reader import Inert, Pointer
from .safetensors_file import read_safetensors
from .sniff import Container, sniff

_ENDINGS: dict[str, tuple[Container, ...]] = {
    ".safetensors": ("safetensors",),
    ".sft": ("safetensors",),
    ".ckpt": ("zip", "pickle"),
    ".pt": ("zip", "pickle"),
    ".pth": ("zip", "pickle"),
    ".bin": ("zip", "pickle"),
}


@dataclass(frozen=True)
class Checkpoint(Mapping[str, Entry]):
    """Tensors by name, where each lies, and what the file says of itself.

    `metadata` is the safetensors header's, or the plain values beside a pickle's tensors; `notes` are
    sentences a person should see (a file that is not what its name says).
    """

    entries: dict[str, Entry]
    source: Path
    container: Container = "safetensors"
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def tensor(self, name: str) -> Tensor:
        """One tensor on the CPU in the file's dtype, mapped rather than read."""
        return Pages().tensor(self.entries[name])

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, mapped: an ordinary state dict for small files."""
        pages = Pages()
        return {name: pages.tensor(entry) for name, entry in self.entries.items()}


def open_weights(path: str | Path) -> Checkpoint:
    """Open a weights file by its content, whatever its name; `*.index.json` opens the shards it lists.

    Raises FileError for a file that is not there, is empty, truncated or damaged, holds no weights, or is a
    pickle that asks for anything but weights.
    """
    path = Path(path)
    if not path.exists():
        raise FileError("no such file", where=path, todo="check the path")
    if path.is_dir():
        raise FileError("this is a folder", where=path, expected="a weights file")
    container = sniff(path)
    if container == "json":
        return _open_shards(path)
    notes = _misnamed(path, container)
    if container == "safetensors":
        entries, metadata = read_safetensors(path)
    else:
        value, records = (read_zip if container == "zip" else read_legacy)(path)
        try:
            entries, metadata = _flatten(value, records)
        except RecursionError as error:
            raise FileError("damaged: it contains itself", path, "a weights file") from error
    if not entries:
        raise FileError("the file holds no tensors", where=path, expected="a weights file")
    return Checkpoint(_scaled(entries), path, container, metadata, notes)


def _misnamed(path: Path, container: Container) -> tuple[str, ...]:
    usual = _ENDINGS.get(path.suffix.lower())
    if usual is None or container in usual:
        return ()
    what = "a safetensors file" if container == "safetensors" else "a torch pickle (opened weights-only)"
    return (f"{path.name} is {what}, whatever its name says",)


def _open_shards(path: Path) -> Checkpoint:
    """The files an index lists (`weight_map`: tensor name -> file beside the index)."""
    try:
        weight_map: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError("a JSON file, but no index of shards", path, expected="a weights file") from error
    missing = [name for name in files if not (path.parent / name).exists()]
    if missing:
        raise FileError(f"{len(missing)} of {len(files)} shards are missing: {', '.join(missing[:3])}", path)
    shards = [open_weights(path.parent / name) for name in files]
    entries = {name: entry for shard in shards for name, entry in shard.items()}
    lost = sorted(set(weight_map) - set(entries))
    if lost:
        raise FileError(f"the shards lack {len(lost)} tensors the index lists, such as {lost[0]!r}", path)
    metadata = {key: value for shard in shards for key, value in shard.metadata.items()}
    notes = tuple(note for shard in shards for note in shard.notes)
    return Checkpoint(_scaled(entries), path, shards[0].container, metadata, notes)


def _flatten(value: Any, records: dict[str, Entry]) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a pickled object by dotted name, and the plain values beside them."""
    entries: dict[str, Entry] = {}
    plain: dict[str, str] = {}

    def walk(item: Any, name: str) -> None:
        if isinstance(item, Inert) and isinstance(item.state, dict):
            item = item.state.get("_parameters")
        if isinstance(item, Pointer):
            entries[name] = resolve(item, name, records)
        elif isinstance(item, dict):
            for key, inner in dict.items(item):  # the pickle may have put attributes over the methods
                walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(item, (str, int, float)):
            plain[name] = str(item)

    weights = dict.get(value, "state_dict") if isinstance(value, dict) else None
    if isinstance(weights, dict) and weights:  # the rest of a training checkpoint is optimiser state
        walk(weights, "")
        plain.update({str(k): str(v) for k, v in dict.items(value) if isinstance(v, (str, int, float))})
    else:
        walk(value, "")
    return entries, plain


_SCALES = (".scale_weight", ".weight_scale")  # ComfyUI's scaled fp8, older and newer spelling
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def _scaled(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Tie each scaled fp8 weight to its scale, so that the pair travels as one entry: W = fp8 * scale."""
    out = dict(entries)
    for name in entries:
        for suffix in _SCALES:
            if not name.endswith(suffix):
                continue
            weight = name[: -len(suffix)] + ".weight"
            if weight in entries and entries[weight].dtype in _FP8:
                out[weight] = replace(entries[weight], scale=entries[name])
                del out[name]
    return out
