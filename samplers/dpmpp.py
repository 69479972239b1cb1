"""DPM-Solver++: solvers in half-log-SNR, in terms of denoised (arXiv:2211.01095)."""

from __future__ import annotations

import math

from torch import Tensor

from .euler import ANCESTRAL
from .spec import Method, Option, Run, sampler

PAPER = "arXiv:2211.01095"


def multistep(run: Run, x: Tensor, eta: float, s_noise: float, heun: bool = False) -> Method:
    """x_next = decay x + gain denoised + bend (h / h_last) (denoised - previous) + std noise, h a step in lambda.

    bend is gain / 2 (midpoint) or alpha_next (1 - (1 - exp(-k)) / k), k = (1 + eta) h (heun). The first step
    has no bend; one to sigma 0 gives denoised.
    """
    levels = run.levels
    previous, h_last = None, math.inf
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        decay, gain, std = levels.sde(sigma, sigma_next, eta)
        h = levels.half_log_snr(sigma_next) - levels.half_log_snr(sigma)
        x = x * decay
        if previous is None or math.isinf(h_last):
            x.add_(denoised, alpha=gain)
        else:
            k = (1 + eta) * h
            bend = levels.alpha(sigma_next) * (1 + math.expm1(-k) / k) if heun else gain / 2
            bend *= h / h_last
            x.add_(denoised, alpha=gain + bend).sub_(previous, alpha=bend)
        x = run.add_noise(x, 1.0, std * s_noise, sigma, sigma_next)
        previous, h_last = denoised, h
    return x


@sampler("dpmpp_2m", label="DPM++ 2M", order=2, aliases=("k_dpmpp_2m", "dpmpp2m", "dpmsolver++"), paper=PAPER)
def dpmpp_2m(run: Run, x: Tensor) -> Method:
    """Second-order multistep, from the denoised of this step and the last."""
    return multistep(run, x, eta=0.0, s_noise=1.0)


@sampler(
    "dpmpp_2m_sde",
    label="DPM++ 2M SDE",
    order=2,
    stochastic=True,
    noise_option="eta",
    brownian=True,
    default_schedule="exponential",
    aliases=("k_dpmpp_2m_sde",),
    paper=PAPER,
    options=(
        *ANCESTRAL,
        Option("solver_type", "midpoint", help="second-order term", choices=("midpoint", "heun")),
    ),
)
def dpmpp_2m_sde(run: Run, x: Tensor) -> Method:
    """The multistep method on the diffusion SDE; eta 0 is the ODE."""
    return multistep(run, x, run.eta, run.s_noise, run.solver_type == "heun")


@sampler(
    "dpmpp_2s_ancestral",
    label="DPM++ 2S a",
    order=2,
    evaluations=2,
    stochastic=True,
    noise_option="eta",
    aliases=("dpmpp_2s_a", "k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"),
    paper=PAPER,
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
    stochastic=True,
    noise_option="eta",
    brownian=True,
    aliases=("k_dpmpp_sde",),
    paper=PAPER,
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
