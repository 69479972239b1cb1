"""Group norms over all frames of a clip, as AnimateDiff v1 was trained: its ResNets saw a clip as one volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from ..core.blocks import ResBlock


def volume_norms(unet: nn.Module) -> list[nn.GroupNorm]:
    """The norms of every ResNet, and the last one before the output."""
    found = [norm for layer in unet.modules() if isinstance(layer, ResBlock) for norm in _norms(layer)]
    return [
        *found,
        *(layer for layer in unet.get_submodule("out").children() if isinstance(layer, nn.GroupNorm)),
    ]


def _norms(layer: ResBlock) -> list[nn.GroupNorm]:
    return [
        norm
        for part in (layer.in_layers, layer.out_layers)
        for norm in part
        if isinstance(norm, nn.GroupNorm)
    ]


@contextmanager
def over_frames(unet: nn.Module, sequences: Callable[[], int]) -> Iterator[None]:
    """While it lasts, those norms take the statistics of each of `sequences()` equal parts of the batch as one."""

    def joint(norm: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        assert isinstance(norm, nn.GroupNorm)
        volume = given[0].unflatten(0, (sequences(), -1)).transpose(1, 2)
        found = F.group_norm(volume, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return found.transpose(1, 2).flatten(0, 1)

    with ExitStack() as stack:
        for norm in volume_norms(unet):
            stack.callback(norm.register_forward_hook(joint).remove)
        yield
