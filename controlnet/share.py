"""Which part of an evaluation's batch a control acts on: the prompt's half, or the negative prompt's as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.patch import Inputs, StepInfo
from .hints import stacked

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """`images` of a batch in each part; `acts` says for each part whether the control acts on it.

    `rows`: which images of the run these are, where an evaluation has not all of them.
    """

    images: int
    acts: tuple[bool, ...]
    rows: tuple[int, ...] = ()

    @classmethod
    def of(cls, info: StepInfo, only_prompt: bool) -> Share:
        """That of one evaluation."""
        assert info.inputs is not None
        branches = info.branches or ("cond",)
        acts = tuple(branch == "cond" or not only_prompt for branch in branches)
        return cls(len(info.inputs.x) // len(branches), acts, info.rows)

    @property
    def whole(self) -> bool:
        """Whether it acts on all of the batch."""
        return all(self.acts)

    def taken(self, x: Tensor) -> Tensor:
        """The rows of x it acts on."""
        if self.whole or len(x) == 1:
            return x
        return torch.cat([part for part, acts in zip(x.split(self.images), self.acts, strict=True) if acts])

    def inputs(self, inputs: Inputs) -> Inputs:
        """The same evaluation for those rows alone."""
        vector = None if inputs.vector is None else self.taken(inputs.vector)
        taken = self.taken
        return Inputs(taken(inputs.x), taken(inputs.timesteps), taken(inputs.context), vector)

    def own(self, hints: Sequence[Tensor]) -> Sequence[Tensor]:
        """Those of the evaluation's images, of one for each of the run's; one for all as it is."""
        return [hints[row] for row in self.rows] if self.rows and len(hints) > max(self.rows) else hints

    def of_images(self, hints: Sequence[Tensor]) -> Tensor:
        """One row for each image of the evaluation, from one for all or one for each of the run's.

        OptionError where there are neither.
        """
        return stacked(self.own(hints), self.images)

    def repeated(self, x: Tensor) -> Tensor:
        """One row an image -> one a row that it acts on."""
        return torch.cat([x] * sum(self.acts))

    def spread(self, x: Tensor) -> Tensor:
        """Rows that it acts on -> all rows, zeros elsewhere."""
        if self.whole:
            return x
        parts, nothing = iter(x.split(self.images)), x.new_zeros(self.images, *x.shape[1:])
        return torch.cat([next(parts) if acts else nothing for acts in self.acts])

    def applied(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """x with the change made to the rows it acts on."""
        if self.whole:
            return change(x)
        parts = x.split(self.images)
        return torch.cat([change(p) if acts else p for p, acts in zip(parts, self.acts, strict=True)])


def forget_windows(kept: dict[Any, Any], share: Share) -> None:
    """Lets go of what was made for another part of the run's images: a long clip would keep that of every window.

    A key's last entry is its share.
    """
    if share.rows and next(iter(kept), (share,))[-1] != share:
        kept.clear()
