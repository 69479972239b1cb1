"""A solver fitted to one model: its own levels, and for each step how x and the last evaluations make the next x."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..core.errors import OptionError
from .exponential_multistep import Step
from .exponential_steps import data_step
from .levels import NoiseLevels
from .phi import combine
from .process import Process
from .spec import Method, Run, SamplerSpec

FAMILY = "Fitted to a model"
NEAR = 1e-3  # by what share a level may differ from the fitted one: what hosts round


@dataclass(frozen=True)
class Calibration:
    """x_next = decay x + sum_j weights_j denoised_j, the newest evaluation first (arXiv:2403.01329, 2502.17423).

    Attributes:
        sigmas: the levels, falling, the last of them 0.
        rows: one for each step; row k has at most k + 1 weights.
        facts: what it was fitted to, in JSON's types (`model`, `prediction`, `guidance`, `size`, `held_out` ...).
    """

    sigmas: tuple[float, ...]
    rows: tuple[Step, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in pairwise(self.sigmas)) and all(map(math.isfinite, self.sigmas))
        if len(self.sigmas) < 2 or not falling or self.sigmas[-1] != 0.0:
            raise OptionError("sigmas of a calibration", expected="two or more, finite, falling to 0")
        if len(self.rows) != self.steps:
            raise OptionError(f"{len(self.rows)} rows for {self.steps} steps", expected="one for each step")
        for number, row in enumerate(self.rows, 1):
            if not 1 <= len(row.weights) <= number or not all(map(math.isfinite, (row.decay, *row.weights))):
                raise OptionError(f"row {number} of a calibration", expected=f"1 to {number} finite weights")

    @property
    def steps(self) -> int:
        """Steps, and evaluations of the model."""
        return len(self.sigmas) - 1

    def skipped(self, sigmas: Sequence[float]) -> int:
        """How many of the first steps a walk along `sigmas` leaves out (0 for all of them).

        Raises OptionError where those are neither the calibration's own levels nor their end.
        """
        first = len(self.sigmas) - len(sigmas)
        own = self.sigmas[max(first, 0) :]
        if first < 0 or not all(abs(a - b) <= NEAR * b for a, b in zip(sigmas, own, strict=True)):
            raise OptionError(
                f"{len(sigmas) - 1} steps from sigma {sigmas[0]:g}",
                expected=f"its own {self.steps} from {self.sigmas[0]:g}, or the last of them",
                todo="give neither steps nor a schedule: the calibration has its own",
            )
        return first


def general_step(levels: Process, sigmas: Sequence[float], index: int, order: int) -> Step:
    """The exact integral over denoised as a polynomial through the last `order` evaluations; to 0, denoised."""
    if sigmas[index + 1] == 0.0:
        return Step(0.0, [1.0])
    places = [sigmas[index - back] for back in range(min(order, index + 1))]
    return data_step(levels, sigmas[index], sigmas[index + 1], places)


def follow(calibration: Calibration, run: Run, x: Tensor) -> Method:
    """Where a walk begins lower, steps whose evaluations it lacks go by a straight line, as DPM++ 2M's do."""
    first = calibration.skipped(run.sigmas)
    values: list[Tensor] = []
    for sigma, _ in run.steps():
        denoised = yield x, sigma
        values.insert(0, denoised)
        row = calibration.rows[first + run.index]
        if any(row.weights[len(values) :]):
            row = general_step(run.levels, run.sigmas, run.index, 2)
        count = min(len(values), len(row.weights))
        x = combine(x, row.decay, values[:count], row.weights[:count])
    return x


@dataclass(frozen=True)
class CalibratedSpec(SamplerSpec):
    """A sampler fitted to one model, which walks its own levels."""

    calibration: Calibration = field(kw_only=True)

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.calibration.facts

    def checked(self, sigmas: Sequence[float], levels: NoiseLevels) -> list[float]:
        values = levels.check(sigmas)
        try:
            self.calibration.skipped(values)
        except OptionError as error:
            raise OptionError(error.what, f"sampler {self.name}", error.expected, error.todo) from None
        return values


def calibrated(calibration: Calibration, name: str = "calibrated") -> CalibratedSpec:
    """A calibration for whatever takes a sampler; `name` may be the path of its file."""
    return CalibratedSpec(
        name=name,
        method=partial(follow, calibration),
        label="Calibrated",
        order=0,
        family=FAMILY,
        default_schedule="",
        paper="arXiv:2502.17423",
        sigmas=calibration.sigmas,
        calibration=calibration,
    )
