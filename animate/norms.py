"""Group norms over all frames of a clip, as AnimateDiff v1 was trained: its ResNets saw a clip as one volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


def volume_norms(unet: nn.Module) -> list[nn.GroupNorm]:
    """The norms of every ResNet, and the last one before the output."""
    found = [norm for layer in unet.modules() for norm in _norms(layer)]
    return [
        *found,
        *(layer for layer in unet.get_submodule("out").children() if isinstance(layer, nn.GroupNorm)),
    ]


def _norms(layer: nn.Module) -> list[nn.GroupNorm]:
    """Those of a ResNet, which is told by its parts: every host has a class of its own."""
    parts = [getattr(layer, name, ()) for name in ("in_layers", "out_layers")]
    return [norm for part in parts if part for norm in part if isinstance(norm, nn.GroupNorm)]


@contextmanager
def over_frames(unet: nn.Module, sequences: Callable[[], int]) -> Iterator[None]:
    """While it lasts, those norms take the statistics of each of `sequences()` equal parts of the batch as one."""

    def joint(norm: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        assert isinstance(norm, nn.GroupNorm)
        volume = given[0].unflatten(0, (sequences(), -1)).transpose(1, 2)
        weight, bias = (value.to(volume) for value in (norm.weight, norm.bias))
        found = F.group_norm(volume, norm.num_groups, weight, bias, norm.eps)
        return found.transpose(1, 2).flatten(0, 1)

    with ExitStack() as stack:
        for norm in volume_norms(unet):
            stack.callback(norm.register_forward_hook(joint).remove)
        yield
