"""Pseudo numerical methods (Liu et al. 2022): fixed linear multistep weights after a one-step start."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .ipndm import PAPER, even
from .lms import final, multistep
from .spec import Method, Run, sampler

# of a stage: the level it is evaluated at, its share of the step
Stages = Sequence[tuple[float, float]]


def _stages(x: Tensor, gap: Tensor, sigma: float, h: float, first: float, stages: Stages) -> Method:
    """x + h (first d + sum of share d'), each stage evaluated where the slope before it leads from x."""
    total, slope = x.add(gap, alpha=first * h / sigma), 1 / sigma
    for level, share in stages:
        trial = x.add(gap, alpha=(level - sigma) * slope)
        denoised = yield trial, level
        gap, slope = trial - denoised, 1 / level
        total.add_(gap, alpha=share * h * slope)
    return total


def _heun(run: Run, x: Tensor, gap: Tensor, sigma: float, sigma_next: float) -> Method:
    return _stages(x, gap, sigma, sigma_next - sigma, 1 / 2, ((sigma_next, 1 / 2),))


def _runge_kutta(run: Run, x: Tensor, gap: Tensor, sigma: float, sigma_next: float) -> Method:
    """The classical weights, with the middle in training time; that is not sigma's, so the step has order 2."""
    levels = run.levels
    middle = levels.sigma_at((levels.time(sigma) + levels.time(sigma_next)) / 2)
    stages = ((middle, 1 / 3), (middle, 1 / 3), (sigma_next, 1 / 6))
    return _stages(x, gap, sigma, sigma_next - sigma, 1 / 6, stages)


@sampler(
    "pndm",
    label="PNDM",
    order=2,
    extra=9,
    family="Linear multistep",
    paper=PAPER,
    options=(final("denoised"),),
)
def pndm(run: Run, x: Tensor) -> Method:
    """Three Runge-Kutta steps of four evaluations, then x + h (55 d - 59 d1 + 37 d2 - 9 d3) / 24."""
    return multistep(run, x, 4, even, _runge_kutta, 3)


@sampler(
    "plms",
    label="PLMS",
    order=2,
    extra=1,
    family="Linear multistep",
    paper=PAPER,
    options=(final("denoised"),),
)
def plms(run: Run, x: Tensor) -> Method:
    """A step of Heun's method (Euler's where it is the only one), then IPNDM from order 2."""
    return multistep(run, x, 4, even, _heun, 1 if len(run.sigmas) > 2 else 0)
