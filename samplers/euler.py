"""Euler's method, plain and ancestral."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .spec import Method, Option, Run, sampler

CHURN = (
    Option("s_churn", 0.0, 0.0, 100.0, "noise put back, spread over the steps; 0 is the plain ODE"),
    Option("s_tmin", 0.0, 0.0, math.inf, "churn only at sigmas from here"),
    Option("s_tmax", math.inf, 0.0, math.inf, "churn only at sigmas up to here"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)
ANCESTRAL = (
    Option("eta", 1.0, 0.0, 10.0, "share of the ancestral noise; 0 is the plain ODE"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)


def churn(run: Run, x: Tensor, sigma: float) -> tuple[Tensor, float]:
    """(x, sigma) with noise put back: sigma_hat = (1 + gamma) sigma (arXiv:2206.00364 alg. 2)."""
    gamma = min(run.s_churn / (len(run.sigmas) - 1), math.sqrt(2) - 1)
    if gamma == 0.0 or not run.s_tmin <= sigma <= run.s_tmax:
        return x, sigma
    sigma_hat = run.levels.churn(sigma, gamma)
    scale, std = run.levels.renoise(sigma, sigma_hat)
    return run.add_noise(x, scale, std * run.s_noise, sigma, sigma_hat), sigma_hat


@sampler(
    "euler",
    label="Euler",
    order=1,
    family="Euler",
    noise_option="s_churn",
    default_schedule="normal",
    aliases=("k_euler",),
    paper="arXiv:2206.00364",
    options=CHURN,
)
def euler(run: Run, x: Tensor) -> Method:
    """x + (sigma_next - sigma) (x - denoised) / sigma, written as one interpolation."""
    for sigma, sigma_next in run.steps():
        x, sigma = churn(run, x, sigma)
        denoised = yield x, sigma
        x = torch.lerp(denoised, x, sigma_next / sigma)
    return x


@sampler(
    "euler_ancestral",
    label="Euler a",
    order=1,
    family="Euler",
    stochastic=True,
    noise_option="eta",
    default_schedule="normal",
    aliases=("euler_a", "k_euler_a", "k_euler_ancestral"),
    paper="k-diffusion",
    options=ANCESTRAL,
)
def euler_ancestral(run: Run, x: Tensor) -> Method:
    """Euler to sigma_down, then noise up to sigma_next."""
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        down = run.levels.ancestral(sigma, sigma_next, run.eta)
        x = torch.lerp(denoised, x, down / sigma)
        scale, std = run.levels.renoise(down, sigma_next)
        x = run.add_noise(x, scale, std * run.s_noise, sigma, sigma_next)
    return x
