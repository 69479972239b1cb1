"""How much an adapter changes: Frobenius norms of its changes, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .bind import Bound
from .blocks import block_of
from .delta import Delta, Shape, matrix
from .full import Full
from .loha import LoHa
from .lokr import LoKr
from .lowrank import LowRank

FREE = (LowRank, LoHa, LoKr, Full)
"""Families whose change is the same whatever weight it stands on."""

Weight = Callable[[str], Tensor | None]


@dataclass
class BlockNorm:
    """``change`` = ||delta||_F of a block, ``weight`` = ||W||_F of the weights it changes (0 where they are not known).

    ``unknown`` changes are not in it: what they are depends on a weight that is not there.
    """

    changes: int = 0
    unknown: int = 0
    change: float = 0.0
    weight: float = 0.0

    @property
    def relative(self) -> float | None:
        """||delta|| / ||W||."""
        return self.change / self.weight if self.weight else None


def block_norms(
    bound: Bound, shapes: Mapping[str, Shape], weight: Weight | None = None
) -> dict[str, BlockNorm]:
    """Block (IN00 ... M00 ... OUT11), text encoder or `rest` -> the norm of its changes at strength 1."""
    found: dict[str, BlockNorm] = {}
    for key, deltas in sorted(bound.deltas.items(), key=lambda item: _order(item[0])):
        block = found.setdefault(_block(key), BlockNorm())
        value = weight(key) if weight else None
        if value is not None:
            block.weight = math.hypot(block.weight, float(value.float().norm()))
        for delta in deltas:
            norm = norm_of(delta, shapes[key], value)
            block.changes += 1
            block.unknown += norm is None
            block.change = math.hypot(block.change, norm or 0.0)
    return found


def norm_of(delta: Delta, shape: Shape, weight: Tensor | None = None) -> float | None:
    """||delta(W)||_F at strength 1; None where it depends on a weight that is not given."""
    if isinstance(delta, LowRank) and delta.mid is None:
        return _low_rank_norm(delta)
    dense = dense_change(delta, shape, weight)
    return None if dense is None else float(dense.norm())


def dense_change(delta: Delta, shape: Shape, weight: Tensor | None = None) -> Tensor | None:
    """delta(W) in fp32; None where it depends on a weight that is not given."""
    if weight is None and not isinstance(delta, FREE):
        return None
    return delta.change(torch.zeros(shape) if weight is None else weight.float())


def _low_rank_norm(delta: LowRank) -> float:
    """||up down||^2 = sum of (up^T up) o (down down^T): nothing larger than rank x rank."""
    like = torch.zeros(())
    up, down = matrix(delta.up, like).double(), matrix(delta.down, like).double()
    square = ((up.T @ up) * (down @ down.T)).sum().clamp_min(0)
    return abs(delta.scale) * math.sqrt(float(square))


def _block(key: str) -> str:
    network, _, path = key.partition(".")
    return block_of(path) or "rest" if network == "unet" else network


def _order(key: str) -> tuple[int, str]:
    """Text encoders, input, middle and output blocks, the rest."""
    block = _block(key)
    sides = ("text", "IN", "M", "OUT")
    return next((i for i, side in enumerate(sides) if block.startswith(side)), len(sides)), block
