"""A control file, loaded: weights that any number of controls and runs share."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from .acting import Acting
from .files import ControlFile, open_control
from .host import Host
from .lllite_acting import LLLiteActing
from .networks import build, build_on, needs_base
from .reference import Reference
from .residual import ControlNetActing, SparseActing, T2IActing, UnionActing
from .settings import REFERENCE, Control
from .style_acting import StyleActing

_ACTING: dict[str, type] = {
    "controlnet": ControlNetActing,
    "control-lora": ControlNetActing,
    "controlnet-union": UnionActing,
    "sparsectrl": SparseActing,
    "t2i-adapter": T2IActing,
    "t2i-style": StyleActing,
    "lllite": LLLiteActing,
}


class ControlModel:
    """One file's network. Of files that hold differences from the UNet it is made anew for each run."""

    def __init__(self, file: ControlFile, device: torch.device, dtype: torch.dtype) -> None:
        self.file, self.device, self.dtype = file, device, dtype
        self._network = None if needs_base(file) else build(file, device, dtype)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> ControlModel:
        """From a weights file. FileError for one that is none, damaged, or of a kind nobody knows."""
        return cls(open_control(path), torch.device(device), dtype)

    def __str__(self) -> str:
        return str(self.file.source)

    @property
    def own(self) -> nn.Module | None:
        """The network, of files that need no UNet to make it."""
        return self._network

    def network(self, host: Host) -> nn.Module:
        """The network, over the host's weights where the file holds differences from them."""
        return self._network or build_on(self.file, host.weights(), self.device, self.dtype)

    def acting(self, control: Control, host: Host) -> Acting:
        """This file as `control` asks, in one run. FileError or OptionError where the two do not go together."""
        return _ACTING[self.file.kind](control, host, self.network(host))


def acting(control: Control, host: Host) -> Acting:
    """A control in one run, whose `model` is loaded or needs no file."""
    if isinstance(control.model, ControlModel):
        return control.model.acting(control, host)
    if str(control.model) in REFERENCE:
        return Reference(control, host)
    return ControlModel.load(control.model).acting(control, host)


def pooled(control: Control, file: ControlFile, name: object) -> bool | None:
    """Whether outputs are averaged, as the shuffle ControlNet wants; only its name says which it is."""
    named = file.kind == "controlnet" and "shuffle" in str(name).lower()
    return True if named and control.pool is None else control.pool
