"""GLoRA (arXiv:2306.07967; LyCORIS): W + scale * (W a1 a2 + b1 b2)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .delta import Delta, Shape, f32, matrix
from .group import Format, Group


@dataclass(frozen=True, eq=False)
class GLoRA(Delta):
    """a1 [in, r], a2 [r, in], b1 [out, r], b2 [r, in * kernel]; ``bm`` [r, r, kernel] is a Tucker core of the b half.

    Older files have the roles of a1 and a2, and of b1 and b2, exchanged; the weight's shape tells them apart.
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    scale: float = 1.0
    bm: Tensor | None = None

    family = "GLoRA"

    def change(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (matrix(t, weight) for t in self._ordered(tuple(weight.shape)))
        b = b1 @ b2 if self.bm is None else torch.einsum("mn...,om,ni->oi...", f32(self.bm, weight), b1, b2)
        change = torch.einsum("oi...,ij->oj...", torch.einsum("oi...,ij->oj...", weight, a1), a2)
        return (change + b.reshape(weight.shape)).mul_(self.scale)

    def _ordered(self, shape: Shape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a1, a2, b1, b2 = self.a1, self.a2, self.b1, self.b2
        return (a1, a2, b1, b2) if self._fits(shape, a1, a2, b1, b2) else (a2, a1, b2, b1)

    def _fits(self, shape: Shape, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor) -> bool:
        """Whether these four, in this order, multiply to a change of a weight of this shape."""
        kernel = 1 if self.bm is None else prod(self.bm.shape[2:])
        return (
            a1.shape[0] == a2.shape[1] == shape[1]
            and a1.shape[1] == a2.shape[0]
            and b1.shape[0] == shape[0]
            and b1.shape[1] == b2.shape[0]
            and prod(b2.shape[1:]) * kernel == prod(shape[1:])
        )

    def misfit(self, shape: Shape) -> str | None:
        a1, a2, b1, b2 = self.a1, self.a2, self.b1, self.b2
        if self._fits(shape, a1, a2, b1, b2) or self._fits(shape, a2, a1, b2, b1):
            return None
        made = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(NEEDS, (a1, a2, b1, b2), strict=True))
        return f"{made} do not fit a weight of {shape}"

    @property
    def rank(self) -> int:
        return min(self.b1.shape[:2])


def _build(group: Group) -> dict[str, Delta]:
    a1, a2, b1, b2 = (group.take(role) for role in NEEDS)
    return {"weight": GLoRA(a1, a2, b1, b2, group.scale(min(b1.shape[:2])), group.pop("bm"))}


NEEDS = ("a1", "a2", "b1", "b2")
FORMAT = Format("GLoRA", NEEDS, _build)
