"""Restart's arithmetic (Xu et al. 2023): which walks, one after the other, a schedule becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..core.errors import OptionError
from .betas import linspace
from .process import Process

RHO = 7.0  # of the steps inside a restart, as in the paper and in A1111


class Segment(NamedTuple):
    """`times` walks of `steps` steps from t_max down to t_min, both sigma / alpha."""

    steps: int
    times: int
    t_min: float
    t_max: float


def checked(segment: Sequence[float]) -> Segment:
    """A restart that can be walked. Raises OptionError for one that cannot."""
    where = f"restart {tuple(segment)}"
    if len(segment) != 4:
        raise OptionError(f"{len(segment)} values", where, "steps, times, t_min, t_max")
    made = Segment(*segment)  # type: ignore[arg-type]
    for name in ("steps", "times"):
        value = getattr(made, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} {value!r}", where, "an integer from 1")
    if not 0.0 < made.t_min < made.t_max < math.inf:
        raise OptionError(f"t_min {made.t_min:g}, t_max {made.t_max:g}", where, "0 < t_min < t_max")
    return made


def automatic(steps: int, t_min: float = 0.1, t_max: float = 2.0) -> tuple[Segment, ...]:
    """A1111's rule: nothing below 20 steps, 9 of them below 36, then twice a quarter of them."""
    segment = checked((9, 1, t_min, t_max) if steps < 36 else (steps // 4, 2, t_min, t_max))
    return () if steps < 20 else (segment,)


def ramp(first: float, last: float, count: int) -> list[float]:
    """`count` levels, ends included, with sigma^(1/7) evenly spaced (arXiv:2206.00364 eq. 5)."""
    inner = linspace(first ** (1 / RHO), last ** (1 / RHO), count)[1:-1]
    return [first, *(value**RHO for value in inner), last]


def thin(sigmas: Sequence[float], steps: int) -> list[float]:
    """The same schedule in this many steps: sigma^(1/7) interpolated evenly by number, an end at 0 kept apart."""
    end = [0.0] if sigmas[-1] == 0.0 else []
    values = [sigma ** (1 / RHO) for sigma in sigmas[: len(sigmas) - len(end)]]
    places = linspace(0.0, len(values) - 1.0, steps + 1 - len(end))
    lows = [min(int(place), len(values) - 2) for place in places]
    between = [
        (values[low] + (place - low) * (values[low + 1] - values[low])) ** RHO
        for low, place in zip(lows, places, strict=True)
    ]
    return [sigmas[0], *between[1:], *end]


def _nearest(sigmas: Sequence[float], sigma: float) -> int:
    inside = [number for number, value in enumerate(sigmas) if value > 0.0]
    return min(inside, key=lambda number: abs(sigmas[number] - sigma))


def _outside(segment: Segment, main: Sequence[float], levels: Process) -> OptionError:
    inside = [sigma for sigma in main[1:] if sigma > 0.0]
    top, low = (
        sigma / levels.alpha(sigma) if levels.alpha(sigma) else math.inf for sigma in (main[0], min(inside))
    )
    return OptionError(
        f"from t_min {segment.t_min:g} to t_max {segment.t_max:g} in a walk of {len(main) - 1} steps of its own",
        "restart",
        f"a t_max above the step nearest to t_min and at most {top:g}, where the walk begins (its lowest: {low:g})",
        "change t_min or t_max, or use more steps",
    )


def plan(
    sigmas: Sequence[float], segments: Sequence[Segment], levels: Process, by_rule: bool = False
) -> list[list[float]]:
    """The walks, one after the other, that replace `sigmas`: as many steps in all.

    A restart begins at the level nearest to t_min of the walk that is left when its steps are taken off.

    Args:
        by_rule: A1111's: t_max too is moved to the nearest level, and a plan with a restart that does not lie inside
            the walk is the walk alone.

    Raises:
        OptionError: a restart that cannot be walked, or that does not lie inside the walk (unless by_rule); the
            restarts leave no two steps for the walk itself.
    """
    segments = [checked(segment) for segment in segments]
    left = len(sigmas) - 1 - sum(segment.steps * segment.times for segment in segments)
    if segments and left < 2:
        raise OptionError(
            f"{len(sigmas) - 1} steps with restarts that take {len(sigmas) - 1 - left}",
            expected="at least 2 more steps than the restarts take",
            todo="use more steps or fewer restarts",
        )
    main = thin(sigmas, left) if segments else list(sigmas)
    walks, start = [], 0
    for segment in sorted(segments, key=lambda segment: -segment.t_min):
        low, high = (levels.sigma_of(-math.log(t)) for t in (segment.t_min, segment.t_max))
        begin, top = _nearest(main, low), _nearest(main, high)
        above = main[top] if by_rule else high
        if begin == 0 or not main[begin] < above <= main[0]:
            if by_rule:
                return [list(sigmas)]
            raise _outside(segment, main, levels)
        if begin > start:
            walks.append(main[start : begin + 1])
        walks += [ramp(above, main[begin], segment.steps + 1)] * segment.times
        start = begin
    return [*walks, main[start:]] if start < len(main) - 1 else walks
