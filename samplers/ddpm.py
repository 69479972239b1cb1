"""Ancestral sampling of Ho et al. (2020), with the variances that are in use."""

from __future__ import annotations

import math

from torch import Tensor

from .process import Process
from .spec import Method, Option, Run, sampler

VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")


def large(levels: Process, sigma: float, sigma_next: float) -> float:
    """The deviation sqrt(beta), beta = 1 - s / s_next with s = alpha^2 / (alpha^2 + sigma^2), the share of signal.

    beta is the forward noise of a latent of unit variance; here in the scale of x at sigma_next.
    """
    alpha, alpha_next = levels.alpha(sigma), levels.alpha(sigma_next)
    size, size_next = math.hypot(alpha, sigma), math.hypot(alpha_next, sigma_next)
    beta = 1 - (alpha * size_next / (alpha_next * size)) ** 2
    return math.sqrt(max(beta, 0.0)) * size_next


@sampler(
    "ddpm",
    label="DDPM",
    order=1,
    stochastic=True,
    default_schedule="normal",
    family="DDPM",
    paper="arXiv:2006.11239",
    options=(
        Option(
            "variance_type",
            "fixed_small",
            help="noise: of the posterior (small) or of the forward step (large); _log is the same, kept as a log",
            choices=VARIANCES,
        ),
    ),
)
def ddpm(run: Run, x: Tensor) -> Method:
    """x_next = mean of q(x_next | x, denoised) + std noise; sigma 0 gives denoised."""
    levels, is_large = run.levels, run.variance_type.startswith("fixed_large")
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        decay, gain, std = levels.posterior(sigma, sigma_next, 1.0)
        x = (x * decay).add_(denoised, alpha=gain)
        x = run.add_noise(x, 1.0, large(levels, sigma, sigma_next) if is_large else std, sigma, sigma_next)
    return x
