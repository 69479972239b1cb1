"""DoRA (arXiv:2402.09353): direction and magnitude apart, W' = m (W + delta) / ||W + delta||."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .delta import Delta, Shape, f32
from .group import Group


@dataclass(frozen=True, eq=False)
class DoRA(Delta):
    """``inner`` normalised; ``magnitude`` [out, 1, ...] is of output rows, [1, in, 1, ...] of input columns.

    At strength s the weight is W + s (W' - W).
    """

    inner: Delta
    magnitude: Tensor

    family = "DoRA"

    def change(self, weight: Tensor) -> Tensor:
        moved = weight + self.inner.change(weight)
        magnitude = f32(self.magnitude, weight).reshape(self._axes(moved.ndim))
        kept = 0 if magnitude.shape[0] != 1 or weight.shape[0] == 1 else 1
        axes = [axis for axis in range(moved.ndim) if axis != kept]
        norm = torch.linalg.vector_norm(moved, dim=axes, keepdim=True)
        # A row of zeros has no direction and stays zero.
        return moved * (magnitude / norm.where(norm > 0, 1.0)) - weight

    def _axes(self, ndim: int) -> Shape:
        shape = tuple(self.magnitude.shape)
        return shape[:2] + (1,) * (ndim - 2)

    @property
    def shape(self) -> Shape | None:
        return self.inner.shape

    @property
    def rank(self) -> int | None:
        return self.inner.rank

    def misfit(self, shape: Shape) -> str | None:
        made = tuple(self.magnitude.shape)
        rows, columns = made[0] == shape[0] and prod(made) == shape[0], made[:2] == (1, shape[1])
        if not (rows or (columns and prod(made) == shape[1])):
            return f"its magnitudes {made} are neither the rows nor the columns of a weight of {shape}"
        return self.inner.misfit(shape)


def normalised(group: Group, delta: Delta) -> Delta:
    """``delta`` with the group's magnitudes where it has them; a vector is one of rows."""
    magnitude = group.pop("magnitude")
    if magnitude is not None:  # PEFT: [out], of a convolution [1, out, 1, 1]
        return DoRA(delta, magnitude.reshape(-1, 1))
    scale = group.pop("dora_scale")
    if scale is None:
        return delta
    if scale.ndim == 1:
        rows = delta.shape is None or delta.shape[0] == len(scale)
        scale = scale.reshape((-1, 1) if rows else (1, -1))
    return DoRA(delta, scale)
