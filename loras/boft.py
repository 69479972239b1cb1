"""BOFT (arXiv:2311.06243) as LyCORIS stores it: butterfly factors of turned blocks, W' = rescale * prod_i R_i W."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Delta, Shape, f32
from .oft import cayley, misfit_rows, rescaled


@dataclass(frozen=True, eq=False)
class BOFT(Delta):
    """B [m, n, b, b]; factor i mixes rows that lie 2^i b / 2 apart. Constraint and Cayley transform are OFT's.

    At strength s each factor is s R_i + (1 - s) I, as its trainer applies it.
    """

    blocks: Tensor
    constraint: float = 0.0
    rescale: Tensor | None = None

    family = "BOFT"

    def change(self, weight: Tensor) -> Tensor:
        return self.delta(weight)

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        weight = weight.float()
        turns = cayley(f32(self.blocks, weight), self.constraint)
        eye = torch.eye(turns.shape[-1], device=turns.device)
        rows = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
        for i, factor in enumerate(torch.lerp(eye.expand_as(turns), turns, strength)):
            rows = butterfly(rows, factor, 2**i * turns.shape[-1] // 2)
        rows = rows.reshape(weight.shape)
        if self.rescale is not None:
            rows = torch.lerp(rows, rescaled(rows, self.rescale), strength)
        return rows - weight

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> Tensor:
        return total.add_(self.delta(weight, strength))

    @property
    def rank(self) -> int:
        return self.blocks.shape[-1]

    def misfit(self, shape: Shape) -> str | None:
        return misfit_rows(self.blocks.shape[1] * self.blocks.shape[2], shape)


def butterfly(rows: Tensor, factor: Tensor, apart: int) -> Tensor:
    """rows [out, in] with pairs that lie ``apart`` brought together, turned by blocks [n, b, b], and put back."""
    size = factor.shape[-1]
    paired = rows.unflatten(0, (-1, 2, apart)).transpose(1, 2).flatten(0, 2)
    turned = torch.einsum("bij,bjc->bic", factor, paired.unflatten(0, (-1, size))).flatten(0, 1)
    return turned.unflatten(0, (-1, apart, 2)).transpose(1, 2).flatten(0, 2)
