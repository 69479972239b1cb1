"""k-diffusion's stochastic one-step forms of DPM-Solver++: in half-log-SNR, in terms of denoised."""

from __future__ import annotations

from torch import Tensor

from .dpm_step import FAMILY, PLUS
from .euler import ANCESTRAL
from .spec import Method, Option, Run, sampler


@sampler(
    "dpmpp_2s_ancestral",
    label="DPM++ 2S a",
    order=2,
    evaluations=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    aliases=("dpmpp_2s_a", "k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"),
    paper=PLUS,
    options=ANCESTRAL,
)
def dpmpp_2s_ancestral(run: Run, x: Tensor) -> Method:
    """The exact step to sigma_down with denoised from its middle in lambda, then noise up to sigma_next."""
    levels = run.levels
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        down = levels.ancestral(sigma, sigma_next, run.eta)
        if down > 0.0:
            middle = levels.between(sigma, down, 0.5)
            decay, gain = levels.exact(sigma, middle)
            denoised = yield (x * decay).add_(denoised, alpha=gain), middle
        decay, gain = levels.exact(sigma, down)
        x = (x * decay).add_(denoised, alpha=gain)
        scale, std = levels.renoise(down, sigma_next)
        x = run.add_noise(x, scale, std * run.s_noise, sigma, sigma_next)
    return x


@sampler(
    "dpmpp_sde",
    label="DPM++ SDE",
    order=2,
    evaluations=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    brownian=True,
    aliases=("k_dpmpp_sde",),
    paper=PLUS,
    options=(*ANCESTRAL, Option("r", 0.5, 0.1, 1.0, "where in lambda the second evaluation lies")),
)
def dpmpp_sde(run: Run, x: Tensor) -> Method:
    """Evaluated at sigma and at a noised trial on the way: D = (1 - c) first + c second, c = 1 / (2 r)."""
    levels = run.levels
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        middle = levels.between(sigma, sigma_next, run.r)
        decay, gain, std = levels.posterior(sigma, middle, run.eta)
        trial = (x * decay).add_(denoised, alpha=gain)
        again = yield run.add_noise(trial, 1.0, std * run.s_noise, sigma, middle), middle
        decay, gain, std = levels.posterior(sigma, sigma_next, run.eta)
        share = gain / (2 * run.r)
        x = (x * decay).add_(denoised, alpha=gain - share).add_(again, alpha=share)
        x = run.add_noise(x, 1.0, std * run.s_noise, sigma, sigma_next)
    return x
