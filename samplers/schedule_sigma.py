"""Schedules that are a formula in sigma between the model's largest and smallest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import OptionError
from .betas import linspace
from .levels import NoiseLevels
from .schedules import schedule_rule
from .spec import Option

EVERYWHERE = ("k-diffusion", "comfyui", "a1111", "forge")
RANGE = (
    Option("sigma_max", 0.0, 0.0, 100_000.0, "largest sigma; 0 is the model's"),
    Option("sigma_min", 0.0, 0.0, 100_000.0, "smallest sigma before the end; 0 is the model's"),
)
RHO = Option("rho", 7.0, 0.1, 100.0, "larger puts more steps near sigma_min")


def bounds(levels: NoiseLevels, sigma_max: float, sigma_min: float) -> tuple[float, float]:
    """(largest, smallest) sigma, 0 standing for the model's. OptionError unless they fall."""
    high, low = sigma_max or levels.sigma_max, sigma_min or levels.sigma_min
    if high <= low:
        raise OptionError(f"sigma_max {high:g} is not above sigma_min {low:g}")
    return high, low


@schedule_rule(
    "karras",
    label="Karras",
    paper="arXiv:2206.00364",
    options=(RHO, *RANGE),
    hosts=(*EVERYWHERE, "reforge", "diffusers", "sd.cpp"),
)
def karras(n: int, levels: NoiseLevels, rho: float, sigma_max: float, sigma_min: float) -> list[float]:
    """sigma^(1/rho) evenly spaced from sigma_max to sigma_min."""
    high, low = bounds(levels, sigma_max, sigma_min)
    return [v**rho for v in linspace(high ** (1 / rho), low ** (1 / rho), n)]


@schedule_rule("exponential", label="Exponential", options=RANGE, hosts=(*EVERYWHERE, "diffusers", "sd.cpp"))
def exponential(n: int, levels: NoiseLevels, sigma_max: float, sigma_min: float) -> Sequence[float]:
    """log sigma evenly spaced."""
    return polyexponential(n, levels, 1.0, sigma_max, sigma_min)


@schedule_rule(
    "polyexponential",
    label="Polyexponential",
    options=(Option("rho", 1.0, 0.1, 10.0, "power of the ramp in log sigma; 1 is exponential"), *RANGE),
    hosts=EVERYWHERE,
)
def polyexponential(
    n: int, levels: NoiseLevels, rho: float, sigma_max: float, sigma_min: float
) -> list[float]:
    """log sigma = log sigma_min + u^rho (log sigma_max - log sigma_min), u from 1 to 0."""
    high, low = bounds(levels, sigma_max, sigma_min)
    return [low * (high / low) ** (u**rho) for u in linspace(1.0, 0.0, n)]


@schedule_rule(
    "lambda_uniform",
    label="Lambda uniform",
    aliases=("lu", "lu_lambdas", "log_snr"),
    paper="arXiv:2206.00927",
    hosts=("diffusers",),
)
def lambda_uniform(n: int, levels: NoiseLevels) -> list[float]:
    """lambda, half the log-SNR, evenly spaced; where alpha is 1 this is `exponential`.

    Where alpha is 0 at sigma_max lambda starts at minus its last value, and the first sigma is sigma_max.
    """
    first, last = levels.half_log_snr(levels.sigma_max), levels.half_log_snr(levels.sigma_min)
    spaced = linspace(-last if math.isinf(first) else first, last, n)
    return [levels.sigma_max, *(levels.sigma_of(value) for value in spaced[1:])]


@schedule_rule(
    "kl_optimal", label="KL Optimal", paper="arXiv:2404.14507", options=RANGE, hosts=("comfyui", "sd.cpp")
)
def kl_optimal(n: int, levels: NoiseLevels, sigma_max: float, sigma_min: float) -> list[float]:
    """arctan sigma evenly spaced, then 0: ComfyUI's, since it ends at a clean picture."""
    high, low = bounds(levels, sigma_max, sigma_min)
    return [math.tan(angle) for angle in linspace(math.atan(high), math.atan(low), n)]


@schedule_rule(
    "kl_optimal@a1111",
    label="KL Optimal (A1111)",
    paper="arXiv:2404.14507",
    options=RANGE,
    hosts=("a1111", "forge", "reforge"),
    ends_at_zero=False,
)
def kl_optimal_a1111(n: int, levels: NoiseLevels, sigma_max: float, sigma_min: float) -> Sequence[float]:
    """arctan sigma evenly spaced over n + 1 sigmas, of which sigma_min is the last: it never reaches 0."""
    return kl_optimal(n + 1, levels, sigma_max, sigma_min)


@schedule_rule("cosine", label="Cosine", hosts=("reforge",))
def cosine(n: int, levels: NoiseLevels) -> list[float]:
    """sigma_min + (sigma_max - sigma_min) (1 + cos(pi sqrt(u))) / 2, u from 0 to 1."""
    low, span = levels.sigma_min, levels.sigma_max - levels.sigma_min
    return [low + span * math.cos(math.pi / 2 * math.sqrt(u)) ** 2 for u in linspace(0.0, 1.0, n)]


@schedule_rule(
    "linear_quadratic",
    label="Linear quadratic",
    options=(
        Option("threshold", 0.025, 0.0001, 0.5, "share of sigma_max that the linear part covers"),
        Option("linear_steps", 0, 0, 999, "steps of the linear part; 0 is half of all"),
    ),
    hosts=("comfyui", "diffusers"),
)
def linear_quadratic(n: int, levels: NoiseLevels, threshold: float, linear_steps: int) -> list[float]:
    """1 - sigma / sigma_max linear in the first steps, then quadratic without a kink (Genmo's Mochi 1).

    It is threshold i / m + (1 - threshold n / m) (max(i - m, 0) / (n - m))^2 at step i of n, m steps linear.
    """
    m = linear_steps or max(n // 2, 1)
    if m >= n > 1:
        raise OptionError(f"linear_steps {m}", "schedule linear_quadratic", f"below the {n} steps")
    rest = 1 - threshold * n / m
    gone = [threshold * i / m + rest * (max(i - m, 0) / (n - m or 1)) ** 2 for i in range(n)]
    return [levels.sigma_max * (1 - value) for value in gone]
