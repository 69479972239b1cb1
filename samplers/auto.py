"""The sampler `auto`: the general way that was best by measurement, for a number of steps, kind of model and guidance.

auto_table.py holds what benchmarks/auto_table.py measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.errors import OptionError
from .auto_table import CASES, TABLE
from .general import GENERAL, General

AUTO = "auto"
STRONG = 1.5  # guidance from which a walk counts as guided
USUAL = 20  # steps


@dataclass(frozen=True)
class Choice:
    """A way, and why."""

    way: General
    reason: str


def choose(steps: int, is_flow: bool, guidance: float) -> Choice:
    """The way of the nearest number of steps that was measured. OptionError for no steps."""
    if steps < 1:
        raise OptionError(f"steps {steps}", expected="1 or more")
    case = (is_flow, abs(guidance) > STRONG)
    table = TABLE[case]
    near = min(table, key=lambda measured: abs(math.log(measured / steps)))
    label, error, other, larger = table[near]
    way = next(way for way in GENERAL if way.label == label)
    measured = f"error {error:.2g} at {near} evaluations, the next best {other} {larger:.2g}"
    return Choice(way, f"{label}: {measured} ({CASES[case]})")
