"""Schedules at quantiles of the Laplace distribution of log sigma (arXiv:2407.03297)."""

from __future__ import annotations

import math

from .betas import linspace
from .levels import NoiseLevels
from .schedule_sigma import RANGE, bounds
from .schedules import schedule_rule
from .spec import Option

MU = Option("mu", 0.0, -5.0, 5.0, "log sigma around which the steps gather")
BETA = Option("beta", 0.5, 0.1, 10.0, "how widely they are spread")


@schedule_rule("laplace", label="Laplace", paper="arXiv:2407.03297", options=(MU, BETA, *RANGE))
def laplace(
    n: int, levels: NoiseLevels, mu: float, beta: float, sigma_max: float, sigma_min: float
) -> list[float]:
    """log sigma at even quantiles of the Laplace distribution cut to [log sigma_min, log sigma_max].

    The hosts cut the values instead of the distribution (`laplace@comfyui`), so that theirs can repeat.
    """
    high, low = bounds(levels, sigma_max, sigma_min)
    ranks = linspace(_laplace_rank(high, mu, beta), _laplace_rank(low, mu, beta), n)
    return [high, *(math.exp(_laplace(u, mu, beta)) for u in ranks[1:-1]), low][:n]


def _laplace_rank(sigma: float, mu: float, beta: float) -> float:
    off = (math.log(sigma) - mu) / beta
    return 1 - math.exp(-off) / 2 if off > 0 else math.exp(off) / 2


def _laplace(rank: float, mu: float, beta: float, shy: float = 0.0) -> float:
    away = rank - 0.5
    return mu - beta * ((away > 0) - (away < 0)) * math.log(1 - 2 * abs(away) + shy)


def _clamped_laplace(n: int, levels: NoiseLevels, mu: float, beta: float) -> list[float]:
    found = [math.exp(_laplace(1 - u, mu, beta, 1e-5)) for u in linspace(0.0, 1.0, n)]
    found = [min(max(sigma, levels.sigma_min), levels.sigma_max) for sigma in found]
    return list(dict.fromkeys(found))


@schedule_rule(
    "laplace@comfyui",
    label="Laplace (ComfyUI)",
    paper="arXiv:2407.03297",
    options=(MU, BETA),
    ends_at_zero=False,
    exact_steps=False,
    fewest=2,
)
def laplace_comfyui(n: int, levels: NoiseLevels, mu: float, beta: float) -> list[float]:
    """n quantiles cut to the model's range and no 0: n - 1 steps. Repeated ones, steps of no length, are left out."""
    return _clamped_laplace(n, levels, mu, beta)


@schedule_rule(
    "laplace@reforge",
    label="Laplace (reForge)",
    paper="arXiv:2407.03297",
    options=(MU, BETA),
    exact_steps=False,
)
def laplace_reforge(n: int, levels: NoiseLevels, mu: float, beta: float) -> list[float]:
    """`laplace@comfyui` with a final 0."""
    return _clamped_laplace(n, levels, mu, beta)
