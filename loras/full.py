"""Differences and values that are stored whole: diff, diff_b, norms, set_weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Delta, Shape, f32
from .group import Format, Group


@dataclass(frozen=True, eq=False)
class Full(Delta):
    """W + scale * value."""

    value: Tensor
    scale: float = 1.0

    family = "full difference"

    def change(self, weight: Tensor) -> Tensor:
        return f32(self.value, weight).reshape(weight.shape) * self.scale

    @property
    def shape(self) -> Shape:
        return tuple(self.value.shape)


@dataclass(frozen=True, eq=False)
class Later(Full):
    """A difference that is worked out when it is asked for; ``value`` has its shape and dtype, and no memory."""

    make: Callable[[], Tensor] = torch.Tensor

    def change(self, weight: Tensor) -> Tensor:
        return f32(self.make(), weight).reshape(weight.shape) * self.scale


@dataclass(frozen=True, eq=False)
class Set(Delta):
    """The value itself: delta = value - W."""

    value: Tensor

    family = "set weight"

    def change(self, weight: Tensor) -> Tensor:
        return f32(self.value, weight).reshape(weight.shape) - weight

    @property
    def shape(self) -> Shape:
        return tuple(self.value.shape)


def _full(name: str, role: str, parameter: str, kind: type[Full] | type[Set] = Full) -> Format:
    def build(group: Group) -> dict[str, Delta]:
        return {parameter: kind(group.take(role))}

    return Format(name, (role,), build)


FORMATS = (
    _full("full difference", "diff", "weight"),
    _full("bias difference", "diff_b", "bias"),
    _full("norm difference", "w_norm", "weight"),
    _full("norm difference", "b_norm", "bias"),
    _full("set weight", "set_weight", "weight", Set),
    _full("set weight", "set_bias", "bias", Set),
)
