"""The places a run visits. Each rule is `rule(config, training, steps, **given) -> Grid`.

`given` are the further arguments of set_timesteps, None left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..core.errors import OptionError
from .spacing import SWITCHES
from .training import Training

Config = Any  # a FrozenDict: entries are attributes
Steps = int | None


class Grid(NamedTuple):
    """n + 1 ratios, of which the last is the end, and the timesteps of the places that are evaluated."""

    ratios: list[float]
    times: list[float]

    @property
    def steps(self) -> int:
        return len(self.ratios) - 1


Rule = Callable[..., Grid]


def only_one(**given: Any) -> None:
    """OptionError unless exactly one is there."""
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        what = " and ".join(there) or f"none of {', '.join(given)}"
        raise OptionError(what, "set_timesteps", expected="exactly one of " + ", ".join(given))


def no_switch(config: Config, name: str) -> None:
    for switch in SWITCHES[:4]:
        if config.get(switch):
            raise OptionError(
                f"{name}= with {switch}", "set_timesteps", todo=f"from_config(config, {switch}=False)"
            )


def falling(times: Sequence[float], total: int) -> list[float]:
    values = [float(time) for time in times]
    if not values or values[0] >= total or any(b >= a for a, b in pairwise(values)) or values[-1] < 0:
        raise OptionError("timesteps", "set_timesteps", expected=f"falling numbers below {total}")
    return values


def at_most(steps: int, total: int) -> int:
    if not 1 <= steps <= total:
        raise OptionError(
            f"{steps} steps", "set_timesteps", expected=f"1 to {total}, the timesteps of training"
        )
    return steps


def end_of(config: Config, training: Training) -> float:
    """Where `final_sigmas_type` ends a run; a class without that entry ends at the smallest ratio."""
    kind = config.get("final_sigmas_type", "sigma_min")
    if kind not in ("zero", "sigma_min"):
        raise OptionError(f"final_sigmas_type {kind!r}", expected="zero or sigma_min")
    return 0.0 if kind == "zero" else training.ratios[0]
