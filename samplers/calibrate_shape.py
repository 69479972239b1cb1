"""Which numbers of a solver are fitted: its levels, and what each step adds to a general one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .calibration import general_step
from .drive import drive
from .exponential_multistep import Step
from .levels import NoiseLevels
from .spec import SamplerSpec

MEMORY = 3


@dataclass(frozen=True)
class Solver:
    """Levels, the last of them 0, and a row for each step: x_next = decay x + sum_j weights_j denoised_j."""

    sigmas: tuple[float, ...]
    rows: tuple[Step, ...]


def solver_of(
    sampler: str | SamplerSpec,
    sigmas: Sequence[float],
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
) -> Solver:
    """What a sampler that is linear in x and its evaluations, one a step, does on these levels.

    It walks in the space of coefficients: x begins as one unit vector and every evaluation is another.
    """
    steps = len(sigmas) - 1
    states: list[Tensor] = []

    def unit(place: int) -> Tensor:
        return torch.eye(steps + 1, dtype=torch.float64)[place].reshape(1, 1, 1, -1)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        states.append(x.flatten())
        return unit(min(len(states), steps))

    states.append(drive(sampler, denoise, unit(0), sigmas, levels=levels, options=options).flatten())
    if len(states) != steps + 1:
        raise OptionError(f"{len(states) - 1} evaluations", expected=f"{steps}, one a step")
    return Solver(tuple(sigmas), tuple(_row(*pair, step) for step, pair in enumerate(pairwise(states))))


def _row(before: Tensor, after: Tensor, step: int) -> Step:
    decay = (after[0] / before[0]).item() if before[0] else 0.0
    return Step(decay, (after - decay * before)[1 : step + 2].flip(0).tolist())


@dataclass(frozen=True)
class Shape:
    """A vector of numbers as a solver.

    For each step in turn: lambda of the level where it ends (but for the last step), what is added to the decay of
    the step that is exact while denoised is constant, and to its weights.

    Attributes:
        first: the first level.
        memory: evaluations a step goes by.
    """

    levels: NoiseLevels
    first: float
    steps: int
    memory: int = MEMORY

    def numbers(self, solver: Solver) -> list[float]:
        """Those of this solver, but for the oldest evaluations where it goes by more than `memory`."""
        found: list[float] = []
        for step, row in enumerate(solver.rows):
            if step < self.steps - 1:
                found.append(self.levels.half_log_snr(solver.sigmas[step + 1]))
            plain = general_step(self.levels, solver.sigmas, step, 1)
            added = [*row.weights, *[0.0] * self._weights(step)][: self._weights(step)]
            found += [row.decay - plain.decay, added[0] - plain.weights[0], *added[1:]]
        return found

    def first_steps(self) -> list[int]:
        """For each of the numbers the step that it changes first."""
        return [step for step in range(self.steps) for _ in range(self._count(step))]

    def solver(self, numbers: Sequence[float]) -> Solver | None:
        """The solver of these numbers; None where its levels do not fall."""
        parts = list(self._parts(numbers))
        ends = [self.levels.sigma_of(part[0]) for part in parts[:-1]]
        sigmas = (self.first, *ends, 0.0)
        if not all(a > b for a, b in pairwise(sigmas)):
            return None
        rows = []
        for step, part in enumerate(parts):
            decay, newest, *older = part if step == self.steps - 1 else part[1:]
            plain = general_step(self.levels, sigmas, step, 1)
            rows.append(Step(plain.decay + decay, [plain.weights[0] + newest, *older]))
        return Solver(sigmas, tuple(rows))

    def evaluations(self) -> int:
        """Model evaluations, for one image, that changing each number once takes."""
        return sum(self.steps - 1 - step for step in self.first_steps())

    def _weights(self, step: int) -> int:
        return min(self.memory, step + 1)

    def _count(self, step: int) -> int:
        return self._weights(step) + (1 if step == self.steps - 1 else 2)

    def _parts(self, numbers: Sequence[float]) -> Iterator[Sequence[float]]:
        at = 0
        for step in range(self.steps):
            yield numbers[at : at + self._count(step)]
            at += self._count(step)
