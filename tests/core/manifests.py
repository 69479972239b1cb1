"""Every name and shape of 93 published files (tests/data), as checkpoints without data."""

from __future__ import annotations

import json
import lzma
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sigmagraft.core.checkpoint import Checkpoint
from sigmagraft.core.entry import Entry

DATA = Path(__file__).resolve().parents[1] / "data"


@lru_cache
def shapes_of() -> dict[str, dict[str, tuple[int, ...]]]:
    """File -> tensor name -> shape; `ldm/...` are single files, `diffusers_...` components of folders."""
    stored = json.loads(lzma.decompress((DATA / "manifests.json.xz").read_bytes()))
    return {file: {name: tuple(shape) for name, shape in tensors.items()} for file, tensors in stored.items()}


@lru_cache
def configs() -> dict[str, dict[str, dict[str, Any]]]:
    """Repository -> file -> fields, of published diffusers repositories."""
    return json.loads(lzma.decompress((DATA / "configs.json.xz").read_bytes()))


def checkpoint(file: str) -> Checkpoint:
    """The file with its names and shapes; its tensors cannot be read."""
    entries = {name: Entry(Path(file), 0, shape, torch.float16) for name, shape in shapes_of()[file].items()}
    return Checkpoint(entries, Path(file))


MODELS = [name for name in shapes_of() if name.startswith("ldm/")]
COMPONENTS = [name for name in shapes_of() if name.startswith("diffusers_")]
