"""Schedules: which sigmas to visit. Each gives n falling sigmas; `schedule` appends the final 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import OptionError
from ..core.registry import Registry
from .betas import linspace
from .levels import NoiseLevels
from .spec import Option, resolve

MAX_STEPS = 1000
Maker = Callable[..., Sequence[float]]


@dataclass(frozen=True)
class ScheduleSpec:
    """`make(n, levels, **options)` gives n falling sigmas above 0."""

    name: str
    make: Maker
    label: str
    aliases: tuple[str, ...] = ()
    paper: str = ""
    options: tuple[Option, ...] = ()


SCHEDULES: Registry[ScheduleSpec] = Registry("schedule")


def schedule_rule(name: str, **declared: Any) -> Callable[[Maker], Maker]:
    """Register a maker of n sigmas; `declared` are the fields of ScheduleSpec."""

    def register(make: Maker) -> Maker:
        SCHEDULES.add(ScheduleSpec(name=name, make=make, **declared))
        return make

    return register


def schedule(
    name: str | ScheduleSpec | Sequence[float], steps: int | None, levels: NoiseLevels, **options: Any
) -> list[float]:
    """steps + 1 falling sigmas that end in 0.

    Args:
        name: a schedule, or your own sigmas: any falling list; a final 0 is appended where it is missing.
        steps: 1 to 1000; with your own list None or its number of steps.

    Raises:
        OptionError: unknown name or option, steps out of range, or a list that does not fall.
    """
    if not isinstance(name, str | ScheduleSpec):
        return _own(name, steps, levels)
    spec = SCHEDULES[name] if isinstance(name, str) else name
    if steps is None or not 1 <= steps <= MAX_STEPS:
        raise OptionError(f"steps {steps}", expected=f"1 to {MAX_STEPS}", todo="20 to 30 is usual")
    values = spec.make(steps, levels, **resolve(spec.options, options, f"schedule {spec.name}"))
    # rounding may leave the range by an ulp, where alpha = 1 - sigma would turn negative
    return levels.check([*(min(value, levels.sigma_max) for value in values), 0.0])


def _own(sigmas: Sequence[float], steps: int | None, levels: NoiseLevels) -> list[float]:
    values = levels.check([*sigmas] if len(sigmas) and sigmas[-1] == 0.0 else [*sigmas, 0.0])
    if steps is not None and steps != len(values) - 1:
        raise OptionError(
            f"steps {steps} with {len(values) - 1} steps in the list of sigmas", todo="leave steps out"
        )
    return values


def _times(n: int, levels: NoiseLevels) -> list[float]:
    return linspace(levels.time(levels.sigma_max), levels.time(levels.sigma_min), n)


@schedule_rule("normal", label="Normal", aliases=("uniform", "discrete"))
def normal(n: int, levels: NoiseLevels) -> list[float]:
    """Evenly spaced training times from sigma_max to sigma_min."""
    return [levels.sigma_at(t) for t in _times(n, levels)]


RHO = Option("rho", 7.0, 0.1, 100.0, "larger puts more steps near sigma_min")


@schedule_rule("karras", label="Karras", paper="arXiv:2206.00364", options=(RHO,))
def karras(n: int, levels: NoiseLevels, rho: float) -> list[float]:
    """sigma^(1/rho) evenly spaced from sigma_max to sigma_min."""
    return [v**rho for v in linspace(levels.sigma_max ** (1 / rho), levels.sigma_min ** (1 / rho), n)]


@schedule_rule("exponential", label="Exponential")
def exponential(n: int, levels: NoiseLevels) -> Sequence[float]:
    """log sigma evenly spaced."""
    return polyexponential(n, levels, 1.0)


@schedule_rule(
    "polyexponential",
    label="Polyexponential",
    options=(Option("rho", 1.0, 0.1, 10.0, "power of the ramp in log sigma; 1 is exponential"),),
)
def polyexponential(n: int, levels: NoiseLevels, rho: float) -> list[float]:
    """log sigma = log sigma_min + u^rho (log sigma_max - log sigma_min), u from 1 to 0."""
    low, span = math.log(levels.sigma_min), math.log(levels.sigma_max / levels.sigma_min)
    return [math.exp(low + u**rho * span) for u in linspace(1.0, 0.0, n)]


@schedule_rule("sgm_uniform", label="SGM Uniform", aliases=("trailing",))
def sgm_uniform(n: int, levels: NoiseLevels) -> list[float]:
    """n + 1 evenly spaced training times without the last."""
    return [levels.sigma_at(t) for t in _times(n + 1, levels)[:-1]]


@schedule_rule("simple", label="Simple")
def simple(n: int, levels: NoiseLevels) -> list[float]:
    """Every (N / n)-th entry of the model's own table of N sigmas, from the top."""
    table = levels.sigmas
    return [table[-(1 + int(i * len(table) / n))] for i in range(n)]


@schedule_rule("ddim_uniform", label="DDIM Uniform", aliases=("ddim", "leading"))
def ddim_uniform(n: int, levels: NoiseLevels) -> list[float]:
    """Table entries 1, 1 + s, 1 + 2 s, ... with s = N // n, from the top (arXiv:2010.02502)."""
    table = levels.sigmas
    stride = len(table) // n
    first = min(1, len(table) - 1 - (n - 1) * stride)
    return [table[first + i * stride] for i in reversed(range(n))]
