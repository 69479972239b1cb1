"""A weight that changes over the run: points `value@place` by sigma, step or fraction, straight lines between them."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ..core.errors import OptionError

Axis = Literal["sigma", "step", "fraction"]
AXES = get_args(Axis)


class Place(NamedTuple):
    """Where one evaluation stands: the sampler's sigma, steps done (between two steps a fraction), of how many."""

    sigma: float
    step: float = 0.0
    steps: int = 1


def place_of(sigma: float, sigmas: Sequence[float]) -> Place:
    """Where a sigma stands in a run: on a straight line between the sigmas of two steps."""
    steps = len(sigmas) - 1
    rising = [-value for value in sigmas]
    after = min(max(bisect_left(rising, -sigma), 0), steps)
    if after == 0 or rising[after] == -sigma:
        return Place(sigma, float(after), steps)
    begin, end = sigmas[after - 1], sigmas[after]
    return Place(sigma, after - 1 + (begin - sigma) / (begin - end) if begin > end else float(after), steps)


@dataclass(frozen=True)
class Curve:
    """``points`` (place, value) in the order of the run; before the first and after the last the value stays.

    Two values at one place are a jump: the later one holds from there on.
    """

    axis: Axis
    points: tuple[tuple[float, float], ...]

    def at(self, place: Place) -> float:
        """The value there."""
        here = _time(self.axis, self._position(place))
        times = [_time(self.axis, point) for point, _ in self.points]
        after = bisect_right(times, here)
        if after == 0:
            return self.points[0][1]
        if after == len(times):
            return self.points[-1][1]
        begin, end = times[after - 1], times[after]
        low, high = self.points[after - 1][1], self.points[after][1]
        return low + (high - low) * (here - begin) / (end - begin)

    def _position(self, place: Place) -> float:
        if self.axis == "sigma":
            return place.sigma
        return place.step if self.axis == "step" else place.step / max(place.steps, 1)


def _time(axis: Axis, position: float) -> float:
    """Sigma falls over the run, steps and fractions rise."""
    return -position if axis == "sigma" else position


def parse_curve(text: str, axis: str | None, where: str) -> Curve:
    """`0@14,1@2` (or `;` between points). Without an axis places up to 1 are fractions, above 1 steps."""
    points: list[tuple[float, float]] = []
    for word in re.split(r"[,;]", text):
        found = re.fullmatch(r"\s*([^@\s]+)\s*@\s*([^@\s%]+)\s*(%?)\s*", word)
        if found is None:
            raise OptionError(f"{word!r} in the curve {text!r}", where, "value@place, such as 0@14,1@2")
        place = _number(found[2], where) / (100.0 if found[3] else 1.0)
        points.append((place, _number(found[1], where)))
    if axis is None:
        axis = "fraction" if all(place <= 1 for place, _ in points) else "step"
    if any(place < 0 for place, _ in points) or (axis == "fraction" and any(p > 1 for p, _ in points)):
        raise OptionError(f"a place outside the run in {text!r}", where, _RANGES[axis])
    ordered = sorted(points, key=lambda point: _time(axis, point[0]))  # type: ignore[arg-type]
    return Curve(axis, tuple(ordered))  # type: ignore[arg-type]


_RANGES = {"sigma": "sigmas from 0", "step": "steps from 0", "fraction": "fractions from 0 to 1"}


def parse_window(key: str, value: str, where: str) -> Curve:
    """`start=5`, `stop=0.4`, `step=5-20`: full strength inside and none outside; below 1 a fraction of the run."""
    begin, _, end = (value.partition("-")) if key == "step" else (value, "", "")
    if key == "stop":
        begin, end = "", value
    numbers = [None if not word.strip() else _number(word, where) for word in (begin, end)]
    if numbers == [None, None] or any(n is not None and n < 0 for n in numbers):
        raise OptionError(f"{key} {value!r}", where, "a step such as 5, or a fraction such as 0.4")
    axis: Axis = "fraction" if all(n is None or n < 1 for n in numbers) else "step"
    points: list[tuple[float, float]] = []
    if numbers[0]:
        points += [(numbers[0], 0.0), (numbers[0], 1.0)]
    if numbers[1] is not None:
        points += [(numbers[1], 1.0), (numbers[1], 0.0)]
    return Curve(axis, tuple(points) or ((0.0, 1.0),))


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError(f"{text!r} is no number", where)
    return value
