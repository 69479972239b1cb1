"""Gradient estimation (Permenter and Yuan 2024): Euler's step along a slope corrected by the last change."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .lms import final, multistep
from .spec import Method, Option, Run, sampler


@sampler(
    "gradient_estimation",
    label="Gradient Estimation",
    order=1,
    family="Linear multistep",
    aliases=("euler_ge",),
    paper="openreview:o2ND9v0CeK",
    options=(
        Option("gamma", 2.0, 0.0, 10.0, "weight of the newest slope; 1 is Euler, 1.5 has order 2"),
        final("denoised"),
    ),
)
def gradient_estimation(run: Run, x: Tensor) -> Method:
    """x + h (gamma d + (1 - gamma) d_last); the first step is Euler's."""

    def weigh(sigmas: Sequence[float], step: int, order: int) -> list[float]:
        h = sigmas[step + 1] - sigmas[step]
        return [h] if order == 1 else [run.gamma * h, (1 - run.gamma) * h]

    return multistep(run, x, 2, weigh)
