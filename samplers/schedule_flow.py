"""Schedules of rectified-flow models: even times from 1 to 1 / n, shifted towards large sigmas.

They state sigma itself, so a shift of the model (`NoiseLevels.flow(shift)`) is not applied on top.
"""

from __future__ import annotations

import math

from ..core.errors import OptionError
from .betas import linspace
from .levels import NoiseLevels
from .schedules import FLOW, schedule_rule
from .spec import Option

POWER = Option("power", 1.0, 0.1, 10.0, "of 1 / t - 1; below 1 spreads the sigmas less")
TERMINAL = Option("terminal", 0.0, 0.0, 0.99, "last sigma before 0, to which all are stretched; 0 for none")
TOKENS = Option("tokens", 4096, 1, 1_000_000, "image tokens, width times height / 256")


def shifted(n: int, factor: float, power: float = 1.0, terminal: float = 0.0) -> list[float]:
    """factor / (factor + (1 / t - 1)^power), t from 1 to 1 / n; stretched so that the last is `terminal`."""
    times = linspace(1.0, 1 / n, n)
    sigmas = [factor / (factor + (1 / t - 1) ** power) for t in times]
    if terminal and n > 1:
        scale = (1 - sigmas[-1]) / (1 - terminal)
        sigmas = [1 - (1 - sigma) / scale for sigma in sigmas]
    return sigmas


def static_shift(n: int, levels: NoiseLevels, shift: float, power: float, terminal: float) -> list[float]:
    """sigma = shift t / (1 + (shift - 1) t) at even t (arXiv:2403.03206 eq. 23)."""
    return shifted(n, shift, power, terminal)


for _name, _label, _shift in (
    ("flow_shift", "Flow shift", 3.0),
    ("sd3", "SD3 shift", 3.0),
    ("auraflow", "AuraFlow shift", 1.73),
):
    schedule_rule(
        _name,
        label=_label,
        paper="arXiv:2403.03206",
        options=(
            Option("shift", _shift, 0.01, 1000.0, "1 is even; more: more large sigmas"),
            POWER,
            TERMINAL,
        ),
        needs=FLOW,
        own_range=True,
    )(static_shift)


@schedule_rule(
    "flux",
    label="Flux",
    options=(
        TOKENS,
        Option("base_shift", 0.5, -10.0, 10.0, "mu at base_tokens"),
        Option("max_shift", 1.15, -10.0, 10.0, "mu at max_tokens"),
        Option("base_tokens", 256, 1, 1_000_000, "image tokens at which mu is base_shift"),
        Option("max_tokens", 4096, 1, 1_000_000, "image tokens at which mu is max_shift"),
        Option(
            "time_shift", "exponential", choices=("exponential", "linear"), help="shift by exp(mu) or by mu"
        ),
        POWER,
        TERMINAL,
    ),
    hosts=("diffusers", "sd.cpp"),
    needs=FLOW,
    own_range=True,
)
def flux(
    n: int,
    levels: NoiseLevels,
    tokens: int,
    base_shift: float,
    max_shift: float,
    base_tokens: int,
    max_tokens: int,
    time_shift: str,
    power: float,
    terminal: float,
) -> list[float]:
    """Shift exp(mu), mu linear in the number of image tokens (Black Forest Labs' Flux 1); LTX sets a terminal."""
    if max_tokens <= base_tokens:
        raise OptionError(f"max_tokens {max_tokens}", "schedule flux", f"above base_tokens {base_tokens}")
    mu = base_shift + (max_shift - base_shift) * (tokens - base_tokens) / (max_tokens - base_tokens)
    factor = math.exp(min(mu, 700.0)) if time_shift == "exponential" else mu
    if factor <= 0.0:
        raise OptionError(f"a linear time shift of {mu:g}", "schedule flux", "above 0", "raise base_shift")
    return shifted(n, factor, power, terminal)


@schedule_rule(
    "flux2", label="Flux 2", options=(TOKENS,), hosts=("diffusers", "sd.cpp"), needs=FLOW, own_range=True
)
def flux2(n: int, levels: NoiseLevels, tokens: int) -> list[float]:
    """Shift exp(mu), mu fitted to image tokens and steps (Black Forest Labs' Flux 2)."""
    return shifted(n, math.exp(empirical_mu(tokens, n)))


def empirical_mu(tokens: int, steps: int) -> float:
    """Lines in tokens for 10 and for 200 steps, linear in steps between; above 4300 tokens the latter's."""
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    return at_200 + (at_200 - at_10) / 190 * (steps - 200)
