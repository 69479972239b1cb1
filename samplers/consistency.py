"""Consistency models (Song et al. 2023): jump to the data, put noise back, jump again."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from .levels import TIMESTEPS, EDMLevels
from .spec import Method, Option, Run, sampler

PAPER = "arXiv:2303.01469"
# (latent, sigma, denoised) -> what the jump lands on
Land = Callable[[Tensor, float, Tensor], Tensor]


class ConsistencyLevels(EDMLevels):
    """Levels of a consistency model: the jump lands on sigma_min, where it is the identity (appendix C).

    denoised = c_skip x + c_out network, c_skip = d^2 / ((sigma - sigma_min)^2 + d^2), d = sigma_data, and
    c_out = d (sigma - sigma_min) / sqrt(sigma^2 + d^2); the network is told 250 log(sigma).
    """

    def timestep(self, sigma: float) -> float:
        return TIMESTEPS * super().timestep(sigma)

    def sigma(self, timestep: float) -> float:
        return super().sigma(timestep / TIMESTEPS)

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        away = sigma - self.sigma_min
        skip = self.sigma_data**2 / (away**2 + self.sigma_data**2)
        out = away * self.sigma_data / math.hypot(sigma, self.sigma_data)
        return {**super().predictions(sigma), "consistency": (skip, out)}


def jumps(run: Run, x: Tensor, land_at: float, s_noise: float, land: Land | None = None) -> Method:
    """x_next = denoised taken from level land_at up to sigma_next by new noise (algorithm 1).

    A walk's last jump gets none: to a level below land_at, denoised is all there is.
    """
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        x = denoised if land is None else land(x, sigma, denoised)
        scale, std = run.levels.renoise(min(land_at, sigma_next), sigma_next)
        x = run.add_noise(x, scale, std * s_noise, sigma, sigma_next)
    return x


@sampler(
    "consistency",
    label="Consistency",
    order=0,
    distilled=True,
    stochastic=True,
    family="Distilled",
    aliases=("cmsi", "cm_stochastic_iterative", "consistency_models"),
    paper=PAPER,
    options=(Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),),
)
def consistency(run: Run, x: Tensor) -> Method:
    """x_next = denoised + s_noise sqrt(sigma_next^2 - sigma_min^2) noise: the model maps onto sigma_min."""
    return jumps(run, x, run.levels.sigma_min, run.s_noise)
