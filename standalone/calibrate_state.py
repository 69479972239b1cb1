"""What calibrations of one model have walked and found so far, on disk, so that they go on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.entry import Pages
from ..core.errors import FileError
from ..core.safetensors_file import read_safetensors, write_safetensors

KEY = "sigmagraft.calibrating"
FORMAT = 1


SUFFIX = ".walks.safetensors"


class State:
    """The ends of the teacher's walks and the numbers of the fits; kept in a file where there is a folder.

    Args:
        folder: None keeps nothing.
        asked: all that decides the walks, in JSON's types; the file is named after it.

    Attributes:
        ends: of each batch, in their order.
        cost: of the steps between the teacher's levels; empty before.
        fits: what is known of the fit of each number of steps, in JSON's types.
    """

    def __init__(self, folder: Path | None, asked: Mapping[str, Any]) -> None:
        self.asked = json.loads(json.dumps(asked))
        name = Path(str(self.asked.get("model"))).stem + "-" + _digits(self.asked) + SUFFIX
        self.path = None if folder is None else folder / name
        self.ends: list[Tensor] = []
        self.cost = torch.zeros(0)
        self.fits: dict[str, dict[str, Any]] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def save(self) -> None:
        """Write it in one step. FileError where that fails."""
        if self.path is None:
            return
        tensors = {f"end{number}": end for number, end in enumerate(self.ends)} | {"cost": self.cost}
        told = {"format": FORMAT, "asked": self.asked, "fits": self.fits}
        write_safetensors(self.path, tensors, {KEY: json.dumps(told)})

    def _read(self, path: Path) -> None:
        entries, metadata = read_safetensors(path)
        told = json.loads(metadata.get(KEY, "{}"))
        if told.get("format") != FORMAT or told["asked"] != self.asked:
            raise FileError(
                "these are not the walks of this calibration", path, todo="remove it to begin anew"
            )
        pages = Pages()
        tensors = {name: pages.tensor(entry).clone() for name, entry in entries.items()}
        self.cost = tensors.pop("cost")
        self.ends = [tensors[f"end{number}"] for number in range(len(tensors))]
        self.fits = told["fits"]


def _digits(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
