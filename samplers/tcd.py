"""Trajectory consistency distillation (Zheng et al. 2024)."""

from __future__ import annotations

import math

from torch import Tensor

from .levels import DiscreteLevels, NoiseLevels
from .spec import Method, Option, Run, sampler

ROUNDING = 1e-6  # of timestep(sigma(t)), which may fall short of a whole t


def intermediate(levels: NoiseLevels, sigma_next: float, gamma: float) -> float:
    """The level of time (1 - gamma) t_next, at most sigma_next.

    t is the timestep where levels are a table, whose entry below is taken; elsewhere, rectified flow included, sigma.
    """
    if gamma == 0.0 or sigma_next == 0.0:
        return sigma_next
    if not isinstance(levels, DiscreteLevels):
        return (1 - gamma) * sigma_next
    time = (1 - gamma) * levels.timestep(sigma_next)
    return min(levels.sigma(math.floor(time + ROUNDING)), sigma_next)


@sampler(
    "tcd",
    label="TCD",
    order=0,
    distilled=True,
    stochastic=True,
    noise_option="gamma",
    default_schedule="sgm_uniform",
    family="Distilled",
    paper="arXiv:2402.19159",
    options=(
        Option("gamma", 0.3, 0.0, 1.0, "share of the way to the data whose noise is new; diffusers' eta"),
    ),
)
def tcd(run: Run, x: Tensor) -> Method:
    """The exact step to time s = (1 - gamma) t_next, then noise from s up to t_next; gamma 0 is DDIM, 1 LCM."""
    levels = run.levels
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        down = intermediate(levels, sigma_next, run.gamma)
        decay, gain = levels.exact(sigma, down)
        x = (x * decay).add_(denoised, alpha=gain)
        x = run.add_noise(x, *levels.renoise(down, sigma_next), sigma, sigma_next)
    return x
