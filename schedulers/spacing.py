"""Which timesteps of training a run visits, and the sequences of sigmas that take their place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import OptionError
from ..samplers.beta_quantile import beta_quantile
from ..samplers.betas import linspace

RHO = 7.0  # of Karras' sequence in every class but EDM's, whose config has it
BETA = 0.6  # both parameters of the beta sequence (arXiv:2407.12173)
SWITCHES = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "use_flow_sigmas",
)


def spaced(
    config: Mapping[str, Any], steps: int, *, beyond: int = 0, whole: bool = True, last: int | None = None
) -> list[float]:
    """`steps` falling timesteps by the config's timestep_spacing.

    linspace: evenly from the last of training to 0; leading: multiples of N // steps, plus steps_offset;
    trailing: back from N in strides of N / steps, less 1 (arXiv:2305.08891 table 2).

    Args:
        beyond: 1 lays one more and leaves it out, so that the run stops short of timestep 0.
        whole: round those of linspace (half to even, as numpy).
        last: number of training timesteps that are in use; None is all.
    """
    total, spacing = config["num_train_timesteps"], config.get("timestep_spacing", "linspace")
    used, points = total if last is None else last, steps + beyond
    if spacing == "linspace":
        times = linspace(0.0, used - 1.0, points)[beyond:][::-1]
        return [float(round(time)) for time in times] if whole else times
    if spacing == "leading":
        stride, offset = used // points, config.get("steps_offset", 0)
        return [float(i * stride + offset) for i in reversed(range(beyond, points))]
    if spacing == "trailing":
        stride = total / steps
        return [time for i in range(steps) if (time := round(used - i * stride) - 1.0) >= 0.0]
    raise OptionError(f"timestep_spacing {spacing!r}", expected="linspace, leading or trailing")


def karras(first: float, last: float, steps: int, rho: float = RHO) -> list[float]:
    """sigma^(1 / rho) evenly spaced (arXiv:2206.00364 eq. 5)."""
    inner = linspace(first ** (1 / rho), last ** (1 / rho), steps)[1:-1]
    return _between(first, [value**rho for value in inner], last, steps)


def exponential(first: float, last: float, steps: int) -> list[float]:
    """log sigma evenly spaced."""
    inner = linspace(math.log(first), math.log(last), steps)[1:-1]
    return _between(first, [math.exp(value) for value in inner], last, steps)


def _between(first: float, inner: list[float], last: float, steps: int) -> list[float]:
    """The sequence with its ends as they are, without a rounding."""
    return [first, *inner, last] if steps > 1 else [first]


def beta(first: float, last: float, steps: int) -> list[float]:
    """sigma at the quantiles of the beta distribution (arXiv:2407.12173)."""
    return [last + beta_quantile(u, BETA, BETA) * (first - last) for u in linspace(1.0, 0.0, steps)]


def converted(config: Mapping[str, Any], sigmas: Sequence[float], steps: int) -> list[float] | None:
    """The sequence that the config's switches put in place of falling `sigmas`; None if it has none on."""
    for switch, rule in zip(SWITCHES, (karras, exponential, beta, exponential), strict=False):
        if config.get(switch):
            first, last = config.get("sigma_max"), config.get("sigma_min")
            return rule(sigmas[0] if first is None else first, sigmas[-1] if last is None else last, steps)
    return None


def shifted(sigma: float, shift: float) -> float:
    """shift sigma / (1 + (shift - 1) sigma) (arXiv:2403.03206 eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)
