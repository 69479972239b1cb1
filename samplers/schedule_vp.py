"""The variance-preserving schedule of arXiv:2011.13456: beta(t) rises linearly, t is even."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .betas import linspace
from .levels import NoiseLevels
from .schedules import DIFFUSION, Need, schedule_rule
from .spec import Option

VP = (
    Option("beta_d", 19.9, 0.01, 1000.0, "growth of beta"),
    Option("beta_min", 0.1, 0.0, 1000.0, "beta at time 0"),
)


def _vp(times: Iterable[float], beta_d: float, beta_min: float) -> list[float]:
    return [math.sqrt(math.expm1(beta_d * t**2 / 2 + beta_min * t)) for t in times]


@schedule_rule("vp", label="VP", paper="arXiv:2011.13456", options=VP, needs=DIFFUSION)
def vp(n: int, levels: NoiseLevels, beta_d: float, beta_min: float) -> list[float]:
    """sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1, t evenly spaced between the model's sigmas.

    k-diffusion's own (`vp@k-diffusion`) goes from t 1 to 0.001 whatever the model, beyond the sigmas of most.
    """
    logs = [math.log1p(sigma**2) for sigma in (levels.sigma_max, levels.sigma_min)]
    first, last = ((math.sqrt(beta_min**2 + 2 * beta_d * log) - beta_min) / beta_d for log in logs)
    return _vp(linspace(first, last, n), beta_d, beta_min)


@schedule_rule(
    "vp@k-diffusion",
    label="VP (k-diffusion)",
    paper="arXiv:2011.13456",
    options=(*VP, Option("eps_s", 1e-3, 1e-5, 0.5, "the last time")),
    hosts=("k-diffusion", "comfyui"),
    needs=Need(
        "an eps, v, x0 or EDM model up to sigma 152", lambda at: not at.is_flow and at.sigma_max > 152
    ),
    own_range=True,
)
def vp_k_diffusion(n: int, levels: NoiseLevels, beta_d: float, beta_min: float, eps_s: float) -> list[float]:
    """`vp` from t 1 to eps_s: sigma 152 to 0.0105 with the defaults."""
    return _vp(linspace(1.0, eps_s, n), beta_d, beta_min)
