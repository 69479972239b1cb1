"""The change one adapter makes to one weight: computed in fp32, on the weight's device, when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields, replace
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Delta(ABC):
    """One algebra's tensors for one weight; they stay in the file's dtype until used.

    Adapters that stand on the same weight W are added: W + sum_i s_i delta_i(W), each of the original W, so that their
    order never matters.
    """

    family: ClassVar[str]
    optional: ClassVar[bool] = False  # nothing is missing where the layer has no such parameter

    @abstractmethod
    def change(self, weight: Tensor) -> Tensor:
        """delta(W) at strength 1, in W's shape; ``weight`` is fp32."""

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The difference to add to ``weight`` at a strength, in fp32."""
        return self.change(weight.float()) * strength

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> Tensor:
        """``total`` + delta(weight) at a strength, written into ``total`` (fp32, contiguous)."""
        return total.add_(self.change(weight), alpha=strength)

    @property
    def shape(self) -> Shape | None:
        """The shape of the weight it is made for, kernel axes flattened into the second; None fits any."""
        return None

    @property
    def rank(self) -> int | None:
        """Its rank, where it has one."""
        return None

    def misfit(self, shape: Shape) -> str | None:
        """Why it cannot change a weight of this shape; None where it can."""
        made = self.shape
        if made is None:
            return None
        same_size = made[:1] == shape[:1] and prod(made) == prod(shape)
        if same_size and (len(shape) > 1 or len(made) < 2):
            return None
        return f"made for a weight of {_size(made)}, this one is {_size(shape)}"

    def with_tensors(self, tensors: Iterator[Tensor]) -> Delta:
        """The same change with other copies of its tensors, in the order of `tensors`."""
        values: dict[str, object] = {}
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                values[item.name] = next(tensors)
            elif isinstance(value, Delta):
                values[item.name] = value.with_tensors(tensors)
        return replace(self, **values)  # type: ignore[type-var]

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor it holds."""
        for item in fields(self):  # type: ignore[arg-type]  # every algebra is a dataclass
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, Delta):
                yield from value.tensors()


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "one number"


def f32(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in fp32 where ``like`` is."""
    return tensor.to(like.device, torch.float32)


def matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """A weight [out, in, ...] as a matrix [out, in * kernel] in fp32 where ``like`` is."""
    return f32(tensor, like).flatten(1)
