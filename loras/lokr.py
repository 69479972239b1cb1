"""LoKr (LyCORIS, arXiv:2309.14859): W + scale * w1 (x) w2, a Kronecker product of factors whole or low-rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Delta, Shape, f32, matrix
from .group import Format, Group


@dataclass(frozen=True, eq=False)
class Factor(Delta):
    """Whole [m, n, kernel], or a [m, r] @ b [r, n * kernel], or a [r, m] and b [r, n] around core [r, r, kernel].

    It is no change of its own, but knows its shape and value as one does.
    """

    whole: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    core: Tensor | None = None

    family = "LoKr factor"

    def change(self, weight: Tensor) -> Tensor:
        """Its value [m, n] or [m, n, kernel]; the kernel is still flat after a and b without a core."""
        if self.whole is not None:
            return f32(self.whole, weight)
        assert self.a is not None
        assert self.b is not None
        if self.core is None:
            return matrix(self.a, weight) @ matrix(self.b, weight)
        return torch.einsum("ij...,ip,jr->pr...", *(f32(t, weight) for t in (self.core, self.a, self.b)))

    @property
    def shape(self) -> Shape:
        if self.whole is not None:
            return tuple(self.whole.shape)
        assert self.a is not None
        assert self.b is not None
        if self.core is None:
            return (self.a.shape[0], *self.b.shape[1:])
        return (self.a.shape[1], self.b.shape[1], *self.core.shape[2:])

    @property
    def rank(self) -> int | None:
        return None if self.b is None else self.b.shape[0]


@dataclass(frozen=True, eq=False)
class LoKr(Delta):
    """scale * kron(w1, w2); the kernel of a convolution belongs to w2."""

    first: Factor
    second: Factor
    scale: float = 1.0

    family = "LoKr"

    def change(self, weight: Tensor) -> Tensor:
        w1, w2 = self.first.change(weight), self.second.change(weight)
        if w2.ndim == 2 and weight.ndim > 2:  # [k, n * kernel], flattened as the weight's own axes are
            w2 = w2.unflatten(1, (-1, *weight.shape[2:]))
        w1 = w1.reshape(w1.shape[:2] + (1,) * (w2.ndim - 2))
        return torch.kron(w1, w2.contiguous()).mul_(self.scale).reshape(weight.shape)

    @property
    def shape(self) -> Shape:
        w1, w2 = self.first.shape, self.second.shape
        return (w1[0] * w2[0], w1[1] * w2[1], *w2[2:])

    @property
    def rank(self) -> int | None:
        return self.second.rank or self.first.rank


def _build(group: Group) -> dict[str, Delta]:
    first, second = _factor(group, "lokr_w1", "lokr_t1"), _factor(group, "lokr_w2", "lokr_t2")
    return {"weight": LoKr(first, second, _scale(group, second.rank or first.rank))}


def _factor(group: Group, role: str, core: str) -> Factor:
    if group.has(role):
        return Factor(group.take(role))
    if not group.has(f"{role}_a", f"{role}_b"):
        group.refuse(f"half of its Kronecker product is missing, {role}")
    return Factor(None, group.take(f"{role}_a"), group.take(f"{role}_b"), group.pop(core))


def _scale(group: Group, rank: int | None) -> float:
    """alpha / rank where a factor is low-rank (that of w2 before that of w1); of two whole factors 1, as in training.

    PEFT trains two whole factors with alpha / r of its configuration.
    """
    if rank is not None:
        return group.scale(rank)
    config, scalar = group.config, group.number("scalar")
    group.pop("alpha")
    set_rank = config.get("r", group.stem) if config else None
    scale = config.scale(group.stem, int(set_rank)) if config and set_rank else 1.0
    return scale * (1.0 if scalar is None else scalar)


FORMAT = Format("LoKr", ("lokr_w1",), _build)
FACTORED = Format("LoKr", ("lokr_w1_a", "lokr_w1_b"), _build)
