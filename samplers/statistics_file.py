"""Statistics of a model on disk: a safetensors file of the tables with what they were measured on as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.entry import Pages
from ..core.errors import FileError, OptionError
from ..core.safetensors_file import read_safetensors, write_safetensors
from .model_statistics import NAMES, ModelStatistics

FORMAT = 1
KEY = "sigmagraft.statistics"
SUFFIX = ".v3.safetensors"
_TODO = "make it with `sigmagraft statistics --model M -o FILE.v3.safetensors`"


def is_statistics(name: str) -> bool:
    """Whether a sampler's name is the path of such a file."""
    return name.lower().endswith(SUFFIX)


def save_statistics(statistics: ModelStatistics, path: str | Path) -> None:
    """Write them, in float32. FileError where that fails."""
    tensors = {name: getattr(statistics, name).float().contiguous() for name in NAMES}
    tensors["lambdas"] = torch.tensor(statistics.lambdas, dtype=torch.float64)
    facts = {"format": FORMAT, "version": __version__, **statistics.facts}
    write_safetensors(Path(path), tensors, {KEY: json.dumps(facts, sort_keys=True)})


def load_statistics(path: str | Path) -> ModelStatistics:
    """Read them; nothing in the file is run. FileError where it is absent, cut, damaged or something else."""
    path = Path(path).expanduser()
    try:
        if path.stat().st_size < 10:
            raise FileError("this holds no statistics", path, todo=_TODO)
        entries, metadata = read_safetensors(path)
        if KEY not in metadata or sorted(entries) != sorted((*NAMES, "lambdas")):
            raise FileError("this holds no statistics of a model", path, todo=_TODO)
        pages = Pages()
        tensors = {name: pages.tensor(entry).clone().double() for name, entry in entries.items()}
    except OSError as error:
        raise FileError(f"cannot read: {error.strerror or error}", path, todo=_TODO) from None
    return _built(path, tensors, _facts(path, metadata[KEY]))


def _facts(path: Path, text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise FileError("damaged: what they were measured on cannot be read", path, todo=_TODO)
    if told.get("format") != FORMAT:
        what = f"written by version {told.get('version')}, in a format that this one does not read"
        raise FileError(what, path, f"format {FORMAT}", todo=_TODO)
    return told


def _built(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> ModelStatistics:
    lambdas = tuple(tensors["lambdas"].flatten().tolist())
    try:
        return ModelStatistics(lambdas, *(tensors[name] for name in NAMES), facts=facts)
    except OptionError as error:
        raise FileError(f"damaged: {error}", path, todo=_TODO) from None
