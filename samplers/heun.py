"""Heun's method."""

from __future__ import annotations

import torch
from torch import Tensor

from .euler import CHURN, churn
from .spec import Method, Run, sampler


@sampler(
    "heun",
    label="Heun",
    order=2,
    evaluations=2,
    family="Runge-Kutta",
    noise_option="s_churn",
    aliases=("k_heun",),
    paper="arXiv:2206.00364",
    options=CHURN,
)
def heun(run: Run, x: Tensor) -> Method:
    """Euler to a trial point, then the step again with the mean of the slopes at both ends."""
    for sigma, sigma_next in run.steps():
        x, sigma = churn(run, x, sigma)
        ratio = sigma_next / sigma
        denoised = yield x, sigma
        trial = torch.lerp(denoised, x, ratio)
        if sigma_next == 0.0:
            return trial
        again = yield trial, sigma_next
        # x + dt (d + d') / 2, where dt d = trial - x and d' = (trial - again) / sigma_next
        half = 0.5 * (sigma_next - sigma) / sigma_next
        x = torch.lerp(x, trial, 0.5).add_(trial, alpha=half).sub_(again, alpha=half)
    return x
