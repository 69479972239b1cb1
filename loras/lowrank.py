"""LoRA (arXiv:2106.09685) and LoCon (arXiv:2309.14859): W + scale * up down, for convolutions with a Tucker core."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .delta import Delta, Shape, f32, matrix
from .full import Full
from .group import Format, Group


@dataclass(frozen=True, eq=False)
class LowRank(Delta):
    """scale * up @ down; up [out, r], down [r, in, kernel]; with ``mid`` [r, r, kernel] down is [r, in]."""

    up: Tensor
    down: Tensor
    scale: float = 1.0
    mid: Tensor | None = None

    family = "LoRA"

    def change(self, weight: Tensor) -> Tensor:
        return (self.matrix(weight) * self.scale).reshape(weight.shape)

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> Tensor:
        if self.mid is not None:
            return super().add_to(total, weight, strength)
        total.view(total.shape[0], -1).addmm_(
            matrix(self.up, weight), matrix(self.down, weight), alpha=self.scale * strength
        )
        return total

    def matrix(self, like: Tensor) -> Tensor:
        """up @ down as [out, in * kernel], without the scale."""
        up, down = matrix(self.up, like), matrix(self.down, like)
        if self.mid is None:
            return up @ down
        return torch.einsum("mn...,om,ni->oi...", f32(self.mid, like), up, down).flatten(1)

    @property
    def shape(self) -> Shape:
        kernel = () if self.mid is None else self.mid.shape[2:]
        return (self.up.shape[0], prod(self.down.shape[1:]), *kernel)

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def _build(group: Group) -> dict[str, Delta]:
    up, down, mid = group.take("lora_up"), group.take("lora_down"), group.pop("lora_mid")
    rank = down.shape[0]
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != (rank if mid is None else mid.shape[0]):
        group.refuse(f"up {tuple(up.shape)} and down {tuple(down.shape)} do not multiply")
    scale = group.scale(rank)
    deltas: dict[str, Delta] = {"weight": LowRank(up, down, scale, mid)}
    if (bias := group.pop("up_bias")) is not None:
        deltas["bias"] = Full(bias, scale)
    return deltas


def _build_embedding(group: Group) -> dict[str, Delta]:
    """A table [tokens, width] changed by (B A)^T, with A [r, tokens] and B [width, r]."""
    a, b = group.take("embedding_a"), group.take("embedding_b")
    return {"weight": LowRank(a.T, b.T, group.scale(a.shape[0]))}


FORMAT = Format("LoRA", ("lora_up", "lora_down"), _build)
EMBEDDING = Format("LoRA", ("embedding_a", "embedding_b"), _build_embedding)
