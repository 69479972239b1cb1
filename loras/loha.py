"""LoHa (arXiv:2108.06098, FedPara; LyCORIS): W + scale * (w1a w1b) o (w2a w2b), elementwise."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .delta import Delta, Shape, f32, matrix
from .group import Format, Group

Factor = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class LoHa(Delta):
    """a [out, r], b [r, in * kernel] of each factor; with a core t [r, r, kernel] a is [r, out] and b [r, in]."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    scale: float = 1.0
    t1: Tensor | None = None
    t2: Tensor | None = None

    family = "LoHa"

    def change(self, weight: Tensor) -> Tensor:
        first = _factor(self.a1, self.b1, self.t1, weight)
        return (first * _factor(self.a2, self.b2, self.t2, weight)).mul_(self.scale).reshape(weight.shape)

    @property
    def shape(self) -> Shape:
        if self.t1 is None:
            return (self.a1.shape[0], prod(self.b1.shape[1:]))
        return (self.a1.shape[1], self.b1.shape[1], *self.t1.shape[2:])

    @property
    def rank(self) -> int:
        return self.b1.shape[0]


def _factor(a: Tensor, b: Tensor, core: Tensor | None, like: Tensor) -> Tensor:
    if core is None:
        return matrix(a, like) @ matrix(b, like)
    return torch.einsum("ij...,jr,ip->pr...", f32(core, like), f32(b, like), f32(a, like))


def _build(group: Group) -> dict[str, Delta]:
    a1, b1, a2, b2 = (group.take(role) for role in NEEDS)
    t1, t2 = group.pop("hada_t1"), group.pop("hada_t2")
    if (t1 is None) != (t2 is None):
        group.refuse("it has one of its two Tucker cores", "hada_t1 and hada_t2")
    return {"weight": LoHa(a1, b1, a2, b2, group.scale(b1.shape[0]), t1, t2)}


NEEDS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
FORMAT = Format("LoHa", NEEDS, _build)
