"""What a calibration under way has found so far, on disk, so that an interrupted one goes on."""

from __future__ import annotations

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


class State:
    """The ends of the teacher's walks and the numbers of the fit; kept in a file where there is a path.

    Attributes:
        ends: of each batch, in their order.
        cost: of the steps between the teacher's levels, and over how many images; empty before.
        found: the rest, in JSON's types.
    """

    def __init__(self, path: Path | None, asked: Mapping[str, Any]) -> None:
        self.path, self.asked = path, json.loads(json.dumps(asked))
        self.ends: list[Tensor] = []
        self.cost = torch.zeros(0)
        self.found: dict[str, Any] = {}
        if path is not None and path.exists():
            self._read(path)

    def save(self) -> None:
        """Write it in one step. FileError where that fails."""
        if self.path is None:
            return
        tensors = {f"end{number}": end for number, end in enumerate(self.ends)} | {"cost": self.cost}
        told = {"format": FORMAT, "asked": self.asked, "found": self.found}
        write_safetensors(self.path, tensors, {KEY: json.dumps(told)})

    def remove(self) -> None:
        """Take the file away."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        todo = "remove it to begin anew, or give another -o"
        entries, metadata = read_safetensors(path)
        if KEY not in metadata:
            raise FileError("this is no unfinished calibration", path, todo=todo)
        told = json.loads(metadata[KEY])
        if told.get("format") != FORMAT:
            raise FileError("an unfinished calibration of another version", path, todo=todo)
        for name, value in self.asked.items():
            if told["asked"].get(name) != value:
                what = f"an unfinished calibration with another {name}"
                raise FileError(what, path, todo=f"go on with the same settings, or {todo}")
        pages = Pages()
        tensors = {name: pages.tensor(entry).clone() for name, entry in entries.items()}
        self.cost = tensors.pop("cost")
        self.ends = [tensors[f"end{number}"] for number in range(len(tensors))]
        self.found = told["found"]
