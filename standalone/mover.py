"""Weights that come to a device and leave it again, and which of them a layer reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from ..controlnet.clip_block import ResidualAttention
from ..core.blocks import SpatialTransformer
from .text import TextEncoder

# weights that a module reads of its children without calling them: where it runs they have to be
READ: Mapping[type[nn.Module], tuple[str, ...]] = {
    TextEncoder: ("text_model.embeddings.position_embedding",),
    SpatialTransformer: ("proj_in", "proj_out"),
    ResidualAttention: ("attn",),
    nn.MultiheadAttention: ("out_proj",),
}


class Mover(Protocol):
    """Brings weights to the device under a name, and lets go of them by that name."""

    def bring(self, name: str, tensors: Iterable[Tensor]) -> None:
        """The data of every tensor is on the device."""

    def release(self, name: str) -> None:
        """The data is what it was."""


class Copies:
    """Copies on `device`; the originals wait. What was brought under two names stays until both are released."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._brought: dict[str, list[Tensor]] = {}
        self._originals: dict[int, Tensor] = {}

    @torch.inference_mode(False)
    def bring(self, name: str, tensors: Iterable[Tensor]) -> None:
        self._brought[name] = list(tensors)
        for tensor in self._brought[name]:
            if id(tensor) not in self._originals:
                self._originals[id(tensor)] = tensor.data
                self._come(tensor)

    @torch.inference_mode(False)
    def release(self, name: str) -> None:
        leaving = self._brought.pop(name)
        kept = {id(tensor) for own in self._brought.values() for tensor in own}
        for tensor in leaving:
            if id(tensor) not in kept and id(tensor) in self._originals:
                tensor.data = self._originals.pop(id(tensor))

    def _come(self, tensor: Tensor) -> None:
        tensor.data = tensor.data.to(self.device)


def weights_of(layer: nn.Module) -> list[Tensor]:
    """The weights that a layer reads itself, as they are now: adapters may have exchanged them."""
    paths = next((paths for kind, paths in READ.items() if isinstance(layer, kind)), ())
    read = [layer, *(layer.get_submodule(path) for path in paths)]
    return [t for each in read for t in (*each.parameters(False), *each.buffers(False))]
