"""What decides the steps of dpm_adaptive: the error of a step, the length of the next, the end of patience."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.errors import OptionError

NAME = "sampler dpm_adaptive"


@dataclass
class Control:
    """A PID controller of the step h in half-log-SNR.

    h grows by 1 + atan(product of e_i^powers_i - 1), where e are the inverse errors of this step and of the two
    accepted before it; a step is accepted where that is at least `safety`.

    Attributes:
        past: log e of the two steps accepted last.
    """

    h: float
    powers: tuple[float, float, float]
    safety: float
    past: list[float] = field(default_factory=list)

    def accepts(self, error: float) -> bool:
        """Whether the step of this error is good enough; sets the next h either way."""
        now = -math.log(error + 1e-8)
        self.past = self.past or [now, now]
        exponent = sum(power * e for power, e in zip(self.powers, (now, *self.past), strict=True))
        growth = 1 + math.atan(math.expm1(min(exponent, 50.0)))
        self.h *= growth
        if growth < self.safety:
            return False
        self.past = [now, self.past[0]]
        return True


class Budget:
    """Counts evaluations. Raises OptionError for more than `most`."""

    def __init__(self, most: int) -> None:
        self.most, self.made = most, 0

    def spend(self, count: int, sigma: float, last: float) -> None:
        self.made += count
        if self.made > self.most:
            raise OptionError(
                f"only at sigma {sigma:.4g} of {last:.4g} after {self.most} evaluations",
                NAME,
                todo="raise rtol, atol or max_evaluations, or lower eta",
            )


def distance(low: Tensor, high: Tensor, before: Tensor, atol: float, rtol: float) -> float:
    """Root mean square of (low - high) / max(atol, rtol |low|, rtol |before|): the one value read from a device."""
    allowed = torch.maximum(low.abs(), before.abs()).mul_(rtol).clamp_(min=atol)
    dtype = torch.promote_types(low.dtype, torch.float32)
    norm = torch.linalg.vector_norm((low - high).div_(allowed), dtype=dtype).item()
    return norm / math.sqrt(low.numel())
