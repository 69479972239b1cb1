"""DPM-Solver++: multistep solvers of the ODE in half-log-SNR, in terms of denoised (arXiv:2211.01095)."""

from __future__ import annotations

import math

from torch import Tensor

from .spec import Method, Run, sampler


@sampler(
    "dpmpp_2m",
    label="DPM++ 2M",
    order=2,
    aliases=("k_dpmpp_2m", "dpmpp2m", "dpmsolver++"),
    paper="arXiv:2211.01095",
)
def dpmpp_2m(run: Run, x: Tensor) -> Method:
    """x_next = decay x + gain D, D = denoised + (h / 2 h_last) (denoised - previous), h the step in lambda.

    The first step, and one that ends at sigma 0, take D = denoised.
    """
    levels = run.levels
    previous, h_last = None, math.inf
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        decay, gain = levels.exact(sigma, sigma_next)
        h = levels.half_log_snr(sigma_next) - levels.half_log_snr(sigma)
        if previous is None or sigma_next == 0.0:
            x = denoised if sigma_next == 0.0 else (x * decay).add_(denoised, alpha=gain)
        else:
            weight = gain * h / (2 * h_last)
            x = (x * decay).add_(denoised, alpha=gain + weight).sub_(previous, alpha=weight)
        previous, h_last = denoised, h
    return x
