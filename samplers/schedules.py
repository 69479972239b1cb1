"""Schedules: which sigmas to visit. What a schedule is, the list of them, and your own lists.

The schedules themselves are in schedule_sigma.py (formulas in sigma), schedule_time.py (even in training
times), schedule_tables.py (published numbers), schedule_flow.py and the files named after one family each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from ..core.errors import OptionError
from ..core.registry import Registry
from .levels import DiscreteLevels, NoiseLevels, are_levels, numbers
from .spec import Option, resolve

MAX_STEPS = 1000
ABOVE = 1.001  # how far a rounded table of a host may lie above the model's largest sigma
Maker = Callable[..., Sequence[float]]


@dataclass(frozen=True)
class Need:
    """Which models a schedule can serve: the words for people, and the test of their levels."""

    text: str
    serves: Callable[[NoiseLevels], bool]


ANY = Need("any model", lambda levels: True)
FLOW = Need("a rectified-flow model", lambda levels: levels.is_flow)
DIFFUSION = Need("a model of eps, v, x0 or EDM", lambda levels: not levels.is_flow)
DISCRETE = Need("a model of discrete timesteps (SD, SDXL)", lambda levels: isinstance(levels, DiscreteLevels))


@dataclass(frozen=True)
class ScheduleSpec:
    """`make(n, levels, **options)` gives n falling sigmas above 0.

    Attributes:
        hosts: the systems in which this name is this schedule; each is an alias name@host.
        needs: which models it can serve, its options left alone.
        ends_at_zero: else `make` gives the whole list, and the walk stops above 0.
        exact_steps: else it may give another number of steps than was asked for, as its host does.
        own_range: its sigmas are given (by a table, by a host) and may leave the model's range below.
        fewest, most: the steps it can have, its options left alone.
    """

    name: str
    make: Maker
    label: str
    aliases: tuple[str, ...] = ()
    paper: str = ""
    options: tuple[Option, ...] = ()
    hosts: tuple[str, ...] = ()
    needs: Need = ANY
    ends_at_zero: bool = True
    exact_steps: bool = True
    own_range: bool = False
    fewest: int = 1
    most: int = MAX_STEPS

    @property
    def base(self) -> str:
        """The name without its host: `beta` of `beta@a1111`."""
        return self.name.partition("@")[0]

    @property
    def other_names(self) -> tuple[str, ...]:
        """The aliases that are not name@host."""
        return tuple(alias for alias in self.aliases if "@" not in alias)


SCHEDULES: Registry[ScheduleSpec] = Registry("schedule")


def schedule_rule(
    name: str, *, hosts: Sequence[str] = (), aliases: Sequence[str] = (), **declared: Any
) -> Callable[[Maker], Maker]:
    """Register a maker of n sigmas; `declared` are the fields of ScheduleSpec. A name@host is of that host."""
    base, _, host = name.partition("@")
    hosts = tuple(dict.fromkeys([host, *hosts] if host else hosts))
    at_hosts = [f"{base}@{host}" for host in hosts]
    others = (*aliases, *(alias for alias in at_hosts if alias != name))

    def register(make: Maker) -> Maker:
        SCHEDULES.add(ScheduleSpec(name=name, make=make, hosts=hosts, aliases=others, **declared))
        return make

    return register


def schedule(
    name: str | ScheduleSpec | Sequence[float], steps: int | None, levels: NoiseLevels, **options: Any
) -> list[float]:
    """steps + 1 falling sigmas; they end in 0 unless the schedule says otherwise (`ends_at_zero`).

    Args:
        name: a schedule, or your own sigmas: any falling list; a final 0 is appended where it is missing.
        steps: 1 to 1000; with your own list None or its number of steps.

    Raises:
        OptionError: unknown name or option, steps out of range, a schedule that cannot serve such a model or
            gives another number of steps though it declares `exact_steps`, or a list that does not fall.
    """
    are_levels(levels)
    if not isinstance(name, str | ScheduleSpec):
        return _own(numbers(name, "schedule"), steps, levels)
    spec = SCHEDULES[name] if isinstance(name, str) else name
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not spec.fewest <= steps <= MAX_STEPS:
        raise OptionError(
            f"steps {steps}", expected=f"{spec.fewest} to {MAX_STEPS}", todo="20 to 30 is usual"
        )
    where = f"schedule {spec.name}"
    if not spec.needs.serves(levels):
        todo = "choose another, see `sigmagraft schedules`"
        raise OptionError("cannot serve this model", where, spec.needs.text, todo)
    values = spec.make(steps, levels, **resolve(spec.options, options, where))
    placed = _placed(spec, values, levels)
    if spec.exact_steps and len(placed) - 1 != steps:
        raise OptionError(
            f"gives {len(placed) - 1} steps", where, f"{steps}, as asked for", "or declare exact_steps=False"
        )
    return levels.check(placed)


def _placed(spec: ScheduleSpec, values: Sequence[float], levels: NoiseLevels) -> list[float]:
    """`values` with their end; refused where they start beyond the model, cut where by a rounding only."""
    top = levels.sigma_max
    if not len(values):
        raise OptionError("gives no sigmas", f"schedule {spec.name}")
    if values[0] > top * ABOVE:
        what = f"starts at sigma {values[0]:g}, and this model's largest is {top:g}"
        raise OptionError(what, f"schedule {spec.name}", todo="choose another schedule or its options")
    if not spec.own_range:  # where alpha = 1 - sigma, an ulp more would turn it negative
        values = [min(value, top) for value in values]
    return [*values, 0.0] if spec.ends_at_zero else [*values]


def _own(sigmas: Sequence[float], steps: int | None, levels: NoiseLevels) -> list[float]:
    values = levels.check(
        [*sigmas] if len(sigmas) and sigmas[-1] == 0.0 else [*sigmas, 0.0],
        todo="list them from the largest to the smallest, none of them twice",
    )
    if steps is not None and steps != len(values) - 1:
        raise OptionError(
            f"steps {steps} with {len(values) - 1} steps in the list of sigmas", todo="leave steps out"
        )
    return values


def sigmas_at(timesteps: Sequence[float], levels: NoiseLevels) -> list[float]:
    """The sigmas of your own falling timesteps, as the network is told them, and a final 0.

    Raises OptionError for a timestep outside the model's range, or one that does not fall.
    """
    values = []
    for timestep in numbers(timesteps, "timesteps"):
        sigma = are_levels(levels).sigma(timestep) if math.isfinite(timestep) else math.nan
        told = levels.timestep(sigma) if sigma > 0.0 else timestep
        if not abs(told - timestep) <= 1e-6 * max(abs(timestep), 1.0):
            low, high = levels.timestep(levels.sigma_min), levels.timestep(levels.sigma_max)
            raise OptionError(f"timestep {timestep:g}", expected=f"{high:g} to {low:g} for this model")
        values.append(sigma)
    return _own(values, None, levels)


def distinct(places: Sequence[int], count: int) -> list[int]:
    """Falling table places 0 ... count - 1, moved as little as makes all of them different.

    Raises OptionError where there are more of them than the table has.
    """
    if len(places) > count:
        raise OptionError(f"steps {len(places)}", expected=f"1 to {count}, as many as the model has levels")
    found, highest = [], count - 1
    for lowest, place in zip(reversed(range(len(places))), places, strict=True):
        found.append(max(min(place, highest), lowest))
        highest = found[-1] - 1
    return found
