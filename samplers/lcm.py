"""Latent consistency models (Luo et al. 2023)."""

from __future__ import annotations

import math

from torch import Tensor

from .consistency import jumps
from .levels import EDMLevels, NoiseLevels
from .spec import Method, Option, Run, sampler

SIGMA_DATA = 0.5


def boundary(levels: NoiseLevels, sigma: float, scaling: float) -> tuple[float, float]:
    """(c_skip, c_out): c_skip of the latent as the network sees it and c_out of denoised, (0, 1) far from the data.

    c_skip = d^2 / (s^2 + d^2), c_out = s / sqrt(s^2 + d^2), d = 0.5 and s = scaling * time; time is the timestep,
    on EDM levels sigma.
    """
    if math.isinf(scaling):
        return 0.0, 1.0
    time = scaling * (sigma if isinstance(levels, EDMLevels) else levels.timestep(sigma))
    norm = math.hypot(time, SIGMA_DATA)
    return (SIGMA_DATA / norm) ** 2, time / norm


@sampler(
    "lcm",
    label="LCM",
    order=0,
    distilled=True,
    stochastic=True,
    default_schedule="sgm_uniform",
    family="Distilled",
    paper="arXiv:2310.04378",
    options=(
        Option(
            "timestep_scaling",
            math.inf,
            0.0,
            math.inf,
            "of the boundary condition c_skip x + c_out denoised; 10 is diffusers', inf leaves denoised alone",
        ),
    ),
)
def lcm(run: Run, x: Tensor) -> Method:
    """x_next = alpha_next denoised + sigma_next noise; sigma 0 gives denoised."""

    def land(x: Tensor, sigma: float, denoised: Tensor) -> Tensor:
        skip, out = boundary(run.levels, sigma, run.timestep_scaling)
        if skip == 0.0:
            return denoised
        return (x * (skip * run.levels.scale_input(sigma))).add_(denoised, alpha=out)

    return jumps(run, x, 0.0, 1.0, land)
