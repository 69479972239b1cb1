"""A stopped walk on disk: a safetensors file whose metadata say the rest as JSON. Nothing in it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..core.entry import Pages
from ..core.errors import FileError
from ..core.safetensors_file import read_safetensors, write_safetensors

FORMAT = 1
KEY = "sigmagraft.walk"
TENSORS = ("x", "at", "answers")
FACTS = ("sampler", "options", "sigmas", "levels", "noise", "evaluated", "settings")
_OTHER = "this is no saved state: no stopped walk is in it"
_TODO = "only what `Recording.save` or --save-state wrote can go on"


def write_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts with a checksum of both."""
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, "version": __version__, **facts}, sort_keys=True)
    write_safetensors(path, here, {KEY: text, "sha256": _checksum(here, text)})


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was written. Raises FileError for a file that is cut, edited, of another version or something else."""
    entries, metadata = _opened(path)
    if KEY not in metadata or sorted(entries) != sorted(TENSORS):
        raise FileError(_OTHER, path, todo=_TODO)
    pages = Pages()
    tensors = {name: pages.tensor(entry).clone() for name, entry in entries.items()}
    if _checksum(tensors, metadata[KEY]) != metadata.get("sha256"):
        raise FileError("its contents were changed since it was saved", path, todo=_TODO)
    return tensors, _facts(path, metadata[KEY], tensors)


def _facts(path: Path, text: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    told = json.loads(text)
    if told.get("format") != FORMAT:
        what = f"written by version {told.get('version')}, in a format that this one does not read"
        raise FileError(what, path, f"format {FORMAT}")
    missing = [name for name in FACTS if name not in told]
    x, at, answers = (tensors[name] for name in TENSORS)
    if missing or not x.shape == at.shape == answers.shape[1:] or len(answers) != len(told["evaluated"]):
        raise FileError(f"damaged: {', '.join(missing) or 'its tensors'} do not fit", path, todo=_TODO)
    return {name: told[name] for name in FACTS}


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with path.open("rb") as file:
            start = file.read(10)
        if len(start) < 10 or start[8:9] != b"{":  # a safetensors file: 8 bytes of length, then JSON
            raise FileError(_OTHER, path, todo=_TODO)
        return read_safetensors(path)
    except OSError as error:
        raise FileError(f"cannot read: {error.strerror or error}", path) from None


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
