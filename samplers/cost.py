"""Model evaluations of a walk, counted before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .guest import walk
from .levels import NoiseLevels
from .schedules import MAX_STEPS
from .spec import SamplerSpec


def evaluations_of(
    spec: SamplerSpec, sigmas: Sequence[float], levels: NoiseLevels, options: Mapping[str, Any] | None = None
) -> int:
    """Counted on a latent of one number; of an adaptive sampler no more than a guess."""
    asked: list[float] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return torch.zeros_like(x)

    def noise(sigma: float, sigma_next: float) -> Tensor:
        return torch.zeros(1, 1, 1, 1)

    walk(spec, denoise, torch.ones(1, 1, 1, 1), sigmas, levels=levels, noise=noise, options=options)
    return len(asked)


def most_steps(
    spec: SamplerSpec,
    sigmas_of: Callable[[int], Sequence[float]],
    evaluations: int,
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
) -> int | None:
    """The most steps that take at most so many evaluations; None if a single step takes more.

    An adaptive sampler, which cannot be counted beforehand, gets as many steps as evaluations; one that walks levels of
    its own takes those.

    Args:
        sigmas_of: a schedule's sigmas for a number of steps; OptionError where it has not so many.
    """

    def fits(steps: int) -> bool:
        try:
            return evaluations_of(spec, sigmas_of(steps), levels, options) <= evaluations
        except OptionError:
            return False

    if spec.adaptive:
        return evaluations
    if spec.sigmas:
        own = evaluations_of(spec, spec.sigmas, levels, options)
        return len(spec.sigmas) - 1 if own <= evaluations else None
    low, high = 0, min(evaluations, MAX_STEPS)
    while low < high:  # evaluations rise with the steps
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low or None
