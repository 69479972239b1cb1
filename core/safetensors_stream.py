"""A safetensors file written tensor by tensor: what it holds is never in memory at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import FileError
from .safetensors_file import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Planned(NamedTuple):
    """A tensor of a file to be: its shape and dtype now, its values when they are written."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]


def stream_safetensors(path: Path, plan: Mapping[str, Planned], metadata: Mapping[str, str]) -> None:
    """Write a file under a temporary name and publish it in one step; whatever stops it, nothing is left.

    The largest elements come first, so that every tensor starts at a multiple of its element's size. FileError where
    the file cannot be written.
    """
    order = sorted(plan, key=lambda name: -plan[name].dtype.itemsize)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(_header({name: plan[name] for name in order}, metadata))
            for name in order:
                file.write(_bytes(name, plan[name]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise FileError(f"cannot write: {error}", path, todo="choose another place") from None
    finally:
        partial.unlink(missing_ok=True)


def _header(plan: Mapping[str, Planned], metadata: Mapping[str, str]) -> bytes:
    """The length, and a JSON object padded so that the tensors start at a multiple of 8."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, one in plan.items():
        end = place + torch.Size(one.shape).numel() * one.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[one.dtype],
            "shape": list(one.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(name: str, planned: Planned) -> Any:
    value = planned.make()
    if tuple(value.shape) != tuple(planned.shape) or value.dtype != planned.dtype:
        raise RuntimeError(f"{name} is not what was planned: {tuple(value.shape)} {value.dtype}")
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
