"""What a step returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


class SchedulerOutput:
    """`prev_sample`, the latent to evaluate next, and `pred_original_sample`, the prediction of x0.

    By attribute, by name (`out["prev_sample"]`) and by number (`out[0]`), as diffusers' outputs.
    """

    __slots__ = ("pred_original_sample", "prev_sample")

    def __init__(self, prev_sample: Tensor, pred_original_sample: Tensor) -> None:
        self.prev_sample = prev_sample
        self.pred_original_sample = pred_original_sample

    @property
    def denoised(self) -> Tensor:
        """What the LCM class calls its prediction."""
        return self.pred_original_sample

    def to_tuple(self) -> tuple[Tensor, Tensor]:
        return self.prev_sample, self.pred_original_sample

    def keys(self) -> tuple[str, str]:
        return "prev_sample", "pred_original_sample"

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return 2
