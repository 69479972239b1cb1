"""OFT (arXiv:2306.07280) as kohya and LyCORIS store it: blocks of output rows turned, W' = rescale * R^T W."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Delta, Shape, f32
from .group import Format, Group

_TINY = 1e-8  # the trainers' own guard against a norm of zero


@dataclass(frozen=True, eq=False)
class OFT(Delta):
    """R = (I + Q)(I - Q)^-1 a block, Q = B - B^T, shrunk to ||Q|| = constraint over all blocks; B [n, size, size].

    The constraint is alpha * out, and 0 is none. At strength s the weight is W + s (W' - W).
    """

    blocks: Tensor
    constraint: float = 0.0
    rescale: Tensor | None = None
    whole: bool = False  # the blocks are R themselves

    family = "OFT"

    def change(self, weight: Tensor) -> Tensor:
        turns = f32(self.blocks, weight)
        turns = turns if self.whole else cayley(turns, self.constraint)
        rows = weight.reshape(turns.shape[0], turns.shape[1], -1)
        return (
            rescaled(torch.einsum("knm,knc->kmc", turns, rows).reshape(weight.shape), self.rescale) - weight
        )

    @property
    def rank(self) -> int:
        return self.blocks.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        return misfit_rows(self.blocks.shape[0] * self.blocks.shape[1], shape)


def cayley(blocks: Tensor, constraint: float) -> Tensor:
    """Orthogonal matrices of any square ones, [..., n, n]."""
    q = blocks - blocks.transpose(-1, -2)
    if constraint > 0:
        norm = q.norm() + _TINY
        q = q * torch.clamp(constraint / norm, max=1.0)
    eye = torch.eye(q.shape[-1], device=q.device)
    return torch.linalg.solve(eye - q, eye + q, left=False)


def rescaled(rows: Tensor, rescale: Tensor | None) -> Tensor:
    """Output rows times their own factor."""
    return rows if rescale is None else rows * f32(rescale, rows).reshape(-1, *(1,) * (rows.ndim - 1))


def misfit_rows(made: int, shape: Shape) -> str | None:
    """Why blocks of that many rows in all do not turn this weight."""
    return None if made == shape[0] else f"made for {made} output rows, this weight has {shape[0]}"


def _build(group: Group) -> dict[str, Delta]:
    blocks = group.take("oft_blocks")
    if blocks.ndim not in (3, 4) or blocks.shape[-1] != blocks.shape[-2]:
        group.refuse(f"oft_blocks {tuple(blocks.shape)}", "square blocks [n, size, size]")
    rows = blocks.shape[-3] * blocks.shape[-2]
    constraint = (group.number("alpha") or 0.0) * rows
    if blocks.ndim == 4:
        from .boft import BOFT

        return {"weight": BOFT(blocks, constraint, group.pop("rescale"))}
    return {"weight": OFT(blocks, constraint, group.pop("rescale"))}


def _build_whole(group: Group) -> dict[str, Delta]:
    group.pop("alpha")  # early LyCORIS wrote one that nothing reads
    return {"weight": OFT(group.take("oft_diag"), rescale=group.pop("rescale"), whole=True)}


FORMAT = Format("OFT", ("oft_blocks",), _build)
WHOLE = Format("OFT", ("oft_diag",), _build_whole)
