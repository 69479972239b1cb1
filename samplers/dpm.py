"""DPM-Solver-2 as k-diffusion has it: the midpoint rule with the midpoint in log sigma."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .dpm_step import FAMILY
from .euler import ANCESTRAL, CHURN, churn
from .spec import Method, Run, sampler


def midpoint(x: Tensor, sigma: float, sigma_next: float) -> Method:
    """x + (sigma_next - sigma) d(x_mid), sigma_mid = sqrt(sigma sigma_next), d = (x - denoised) / sigma."""
    denoised = yield x, sigma
    if sigma_next == 0.0:
        return denoised
    middle = math.sqrt(sigma * sigma_next)
    x_mid = torch.lerp(denoised, x, middle / sigma)
    again = yield x_mid, middle
    slope = (sigma_next - sigma) / middle
    return x.add(x_mid, alpha=slope).sub_(again, alpha=slope)


@sampler(
    "dpm_2",
    label="DPM2",
    order=2,
    evaluations=2,
    family=FAMILY,
    noise_option="s_churn",
    aliases=("k_dpm_2", "kdpm2"),
    paper="arXiv:2206.00364",
    options=CHURN,
)
def dpm_2(run: Run, x: Tensor) -> Method:
    """The midpoint rule, after churn."""
    for sigma, sigma_next in run.steps():
        x, sigma = churn(run, x, sigma)
        x = yield from midpoint(x, sigma, sigma_next)
    return x


@sampler(
    "dpm_2_ancestral",
    label="DPM2 a",
    order=2,
    evaluations=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    aliases=("dpm_2_a", "k_dpm_2_a", "k_dpm_2_ancestral", "kdpm2_a"),
    paper="k-diffusion",
    options=ANCESTRAL,
)
def dpm_2_ancestral(run: Run, x: Tensor) -> Method:
    """The midpoint rule to sigma_down, then noise up to sigma_next."""
    for sigma, sigma_next in run.steps():
        down = run.levels.ancestral(sigma, sigma_next, run.eta)
        x = yield from midpoint(x, sigma, down)
        scale, std = run.levels.renoise(down, sigma_next)
        x = run.add_noise(x, scale, std * run.s_noise, sigma, sigma_next)
    return x
