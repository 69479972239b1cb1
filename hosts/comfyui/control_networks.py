"""Networks of files as ComfyUI's memory management knows them: ModelPatchers, on the device while they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ...controlnet.clip_vision import ImageEncoder
from ...controlnet.files import open_control
from ...controlnet.ip_adapter import IPAdapter
from ...controlnet.ip_file import IPAdapterFile
from ...controlnet.model import ControlModel
from . import comfy

T = TypeVar("T")


class Network(Generic[T]):
    """What a file makes, once for each dtype; `modules` are those of its parts that have weights."""

    def __init__(self, make: Callable[[torch.dtype], T], modules: Callable[[T], list[nn.Module]]) -> None:
        self._make, self._modules = make, modules
        self._made: dict[torch.dtype, tuple[T, list[Any]]] = {}

    def __deepcopy__(self, memo: object) -> Network[T]:
        return self  # hosts copy what nodes hand on

    def at(self, dtype: torch.dtype) -> tuple[T, list[Any]]:
        """It and its ModelPatchers."""
        if dtype not in self._made:
            made = self._make(dtype)
            self._made = {dtype: (made, _patchers(self._modules(made)))}
        return self._made[dtype]

    def loaded(self, dtype: torch.dtype) -> T:
        """It, on the device where the host computes, until the host needs the room."""
        made, patchers = self.at(dtype)
        if patchers:
            comfy("model_management").load_models_gpu(patchers)
        return made


def _patchers(modules: list[nn.Module]) -> list[Any]:
    """One for all of them, in a list of its own: the host writes attributes on what it is given."""
    if not modules:
        return []
    management = comfy("model_management")
    devices = {
        "load_device": management.get_torch_device(),
        "offload_device": management.unet_offload_device(),
    }
    return [comfy("model_patcher").ModelPatcher(nn.ModuleList(modules), **devices)]


def control_network(path: str | Path) -> Network[ControlModel]:
    """A file of the ControlNet family. FileError for one that is none."""
    file, device = open_control(path), comfy("model_management").get_torch_device()

    def make(dtype: torch.dtype) -> ControlModel:
        made = ControlModel(file, torch.device("cpu"), dtype)
        made.device = device  # of networks made over the UNet's weights, for each walk
        return made

    return Network(make, lambda made: [made.own] if made.own is not None else [])


def image_adapter_network(file: IPAdapterFile) -> Network[IPAdapter]:
    """An IP-Adapter."""
    return Network(
        lambda dtype: IPAdapter.load(file, "cpu", dtype), lambda made: [made.projection, made.layers]
    )


def encoder_network(path: str | Path) -> Network[ImageEncoder]:
    """A CLIP image encoder's file, read by this package. FileError for one that is none."""
    return Network(lambda dtype: ImageEncoder.load(path, "cpu", dtype), lambda made: [made.network])
