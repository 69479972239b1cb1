"""Schedules along arctangents: steep at a pivot, flat away from it (RES4LYF)."""

from __future__ import annotations

import math

from .levels import NoiseLevels
from .schedules import FLOW, schedule_rule
from .spec import Option


def tangent(count: int, slope: float, pivot: float, first: float, last: float) -> list[float]:
    """arctan(slope (pivot - i)), i = 0 ... count - 1, scaled to go from `first` to `last` (one: the first)."""
    curve = [math.atan(slope * (pivot - i)) for i in range(count)]
    if count < 2:
        return [first] * count
    span = curve[0] - curve[-1]
    return [last + (first - last) * (value - curve[-1]) / span for value in curve]


def two_tangents(
    n: int, ends: tuple[float, float, float], pivots: tuple[float, float], slopes: tuple[float, float]
) -> list[float]:
    """n + 1 values through ends = (first, middle, last), an arctangent on each side of the middle.

    Pivots are shares of the steps, slopes those of 40 steps.
    """
    steps = n + 2
    first_pivot, second_pivot = (int(steps * pivot) for pivot in pivots)
    length = int((steps * pivots[0] + steps * pivots[1]) / 2)
    above, below = (slope / (steps / 40) for slope in slopes)
    first = tangent(length, above, first_pivot, ends[0], ends[1])[:-1]
    return first + tangent(steps - length, below, second_pivot - length, ends[1], ends[2])


BONG = (
    Option("pivot_1", 0.6, 0.1, 0.9, "steepest point of the first half, as a share of the steps"),
    Option("pivot_2", 0.6, 0.1, 0.9, "steepest point of the second half"),
    Option("slope_1", 0.2, 0.001, 10.0, "steepness of the first half"),
    Option("slope_2", 0.2, 0.001, 10.0, "steepness of the second half"),
    Option("middle", 0.5, 0.01, 0.99, "where the halves meet, as a share of the range"),
)


def _bong(
    n: int,
    high: float,
    low: float,
    pivot_1: float,
    pivot_2: float,
    slope_1: float,
    slope_2: float,
    middle: float,
) -> list[float]:
    ends = (high, low + (high - low) * middle, low)
    return two_tangents(n, ends, (pivot_1, pivot_2), (slope_1, slope_2))[:n]


@schedule_rule("bong_tangent", label="Bong tangent", options=BONG, own_range=True)
def bong_tangent(n: int, levels: NoiseLevels, **shape: float) -> list[float]:
    """Two arctangents from sigma_max: on rectified flow to 0, as RES4LYF has it, else to sigma_min, as sd.cpp.

    RES4LYF's own starts at 1 whatever the model, which only a rectified-flow model can use.
    """
    if n == 1:  # the first half would be empty
        return [levels.sigma_max]
    return _bong(n, levels.sigma_max, 0.0 if levels.is_flow else levels.sigma_min, **shape)


@schedule_rule(
    "bong_tangent@res4lyf",
    label="Bong tangent (RES4LYF)",
    options=BONG,
    hosts=("res4lyf", "comfyui"),
    needs=FLOW,
    own_range=True,
)
def bong_tangent_res4lyf(n: int, levels: NoiseLevels, **shape: float) -> list[float]:
    """Two arctangents from 1 to 0. One step, which RES4LYF cannot do, is 1 to 0."""
    return [1.0] if n == 1 else _bong(n, 1.0, 0.0, **shape)


@schedule_rule("bong_tangent@sd.cpp", label="Bong tangent (sd.cpp)", options=BONG)
def bong_tangent_sdcpp(n: int, levels: NoiseLevels, **shape: float) -> list[float]:
    """Two arctangents from sigma_max to sigma_min, then 0. One step starts at the middle, as in sd.cpp."""
    return _bong(n, levels.sigma_max, levels.sigma_min, **shape)


@schedule_rule(
    "tan",
    label="Tan",
    options=(
        Option("pivot", 0.5, 0.0, 1.0, "steepest point, as a share of the steps"),
        Option("slope", 0.2, 0.001, 10.0, "steepness, at 40 steps"),
    ),
)
def tan(n: int, levels: NoiseLevels, pivot: float, slope: float) -> list[float]:
    """One arctangent from sigma_max to sigma_min (RES4LYF's tan scheduler with its offset and slope in shares)."""
    return tangent(n, slope * 40 / n, pivot * n, levels.sigma_max, levels.sigma_min)
