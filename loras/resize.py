"""A change as a LoRA of a chosen rank: the best approximation there is, by its singular values (Eckart-Young)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Delta, matrix
from .dora import DoRA
from .lora_file import Part
from .lowrank import LowRank
from .measure import dense_change
from .save import Placed


@dataclass(frozen=True)
class Keep:
    """What is kept: at most ``rank`` singular values, and no more than hold ``energy`` of the sum of their squares."""

    rank: int | None = None
    energy: float | None = None

    def count(self, values: Tensor) -> int:
        """How many of the values (largest first), at least one."""
        kept = len(values) if self.rank is None else min(self.rank, len(values))
        if self.energy is not None:
            sums = values.square().cumsum(0)
            enough = int((sums < self.energy * sums[-1] * (1 - 1e-9)).sum()) + 1
            kept = min(kept, enough)
        return max(kept, 1)


def low_rank(change: Tensor, keep: Keep, dtype: torch.dtype = torch.float32) -> LowRank:
    """The best LoRA of a change [out, in, ...]; alpha is its rank. Computed in fp64 on the smaller side."""
    whole = change.flatten(1).double()
    wide = whole.shape[0] <= whole.shape[1]
    whole = whole if wide else whole.T
    squares, vectors = torch.linalg.eigh(whole @ whole.T)
    values, vectors = squares.clamp_min(0).sqrt().flip(0), vectors.flip(1)
    kept = keep.count(values)
    first, second = vectors[:, :kept], vectors[:, :kept].T @ whole
    return _balanced(*((first, second) if wide else (second.T, first.T)), values[:kept], wide, dtype)


def _balanced(up: Tensor, down: Tensor, values: Tensor, wide: bool, dtype: torch.dtype) -> LowRank:
    """The root of each singular value in either factor, so that neither leaves the range of fp16."""
    root = values.clamp_min(1e-12).sqrt()
    up, down = (up * root, down / root[:, None]) if wide else (up / root, down * root[:, None])
    return LowRank(up.to(dtype).contiguous(), down.to(dtype).contiguous())


def factored(
    ups: list[Tensor], downs: list[Tensor], keep: Keep, dtype: torch.dtype = torch.float32
) -> LowRank:
    """The best LoRA of sum_i up_i down_i, without the matrices: QR of both sides, then SVD of rank x rank."""
    up, down = torch.cat(ups, 1).double(), torch.cat(downs, 0).double()
    left, inner_left = torch.linalg.qr(up)
    right, inner_right = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(inner_left @ inner_right.T)
    kept = keep.count(values)
    root = values[:kept].sqrt()
    return LowRank(
        ((left @ u[:, :kept]) * root).to(dtype).contiguous(),
        (root[:, None] * (v[:kept] @ right.T)).to(dtype).contiguous(),
    )


def resized(one: Placed, keep: Keep) -> Placed:
    """A part with its LoRA cut; a DoRA keeps its magnitudes, and what is no matrix stays as it is."""
    deltas = [(name, _cut(one, name, delta, keep)) for name, delta in one.part.deltas]
    ranks = [delta.rank for _, delta in deltas if delta.rank is not None]
    alpha = float(ranks[0]) if ranks else one.part.alpha
    return Placed(one.module, Part(one.part.stem, deltas, one.part.keys, alpha))


def _cut(one: Placed, parameter: str, delta: Delta, keep: Keep) -> Delta:
    shape = one.module.shapes.get(parameter, ())
    if isinstance(delta, DoRA):
        return DoRA(_cut(one, parameter, delta.inner, keep), delta.magnitude)
    if isinstance(delta, LowRank) and delta.mid is None:
        like = torch.zeros(())
        up, down = matrix(delta.up, like) * delta.scale, matrix(delta.down, like)
        return factored([up], [down], keep, delta.up.dtype)
    if len(shape) < 2:
        return delta
    change = dense_change(delta, shape)
    if change is None:
        return delta
    return low_rank(change, keep, next(delta.tensors()).dtype)
