"""DDIM (Song et al. 2020), from deterministic (eta 0) to DDPM's posterior noise (eta 1)."""

from __future__ import annotations

from torch import Tensor

from .spec import Method, Option, Run, sampler


@sampler(
    "ddim",
    label="DDIM",
    order=1,
    family="DDPM",
    noise_option="eta",
    default_schedule="normal",
    paper="arXiv:2010.02502",
    options=(Option("eta", 0.0, 0.0, 1.0, "share of DDPM's posterior noise; 0 is deterministic"),),
)
def ddim(run: Run, x: Tensor) -> Method:
    """x_next = alpha_next denoised + sqrt(sigma_next^2 - std^2) eps + std noise.

    eps = (x - alpha denoised) / sigma.
    """
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        decay, gain, std = run.levels.posterior(sigma, sigma_next, run.eta)
        x = (x * decay).add_(denoised, alpha=gain)
        x = run.add_noise(x, 1.0, std, sigma, sigma_next)
    return x
