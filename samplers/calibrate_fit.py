"""Fitting a solver to where a model's trajectories end: Gauss-Newton on all its numbers at once.

No gradient passes through the model. What a number does to the ends is seen by changing it a little; the steps before
the one it changes are not walked again. The loss is the mean over trajectories of log(e^2 + c^2), e a relative RMS
error and c a share of their median: the few trajectories that end in another picture altogether, whatever the solver,
do not outweigh the rest.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from .calibrate_shape import Shape, Solver
from .drive import Denoise
from .phi import combine

SOFT = 0.3  # of the median error: below it an error counts little more for being smaller
DAMPINGS = (
    1e-5,
    1e-3,
    3e-2,
    1.0,
)  # of Levenberg and Marquardt; each step takes the best of them on some images
ENOUGH = 16  # images that choose among them
STRONGER = (10.0, 100.0, 1000.0)  # where none of those lowers the loss


class Trajectories(NamedTuple):
    """Walks of one batch: the denoiser, x [b, ...] at the first level, and where the teacher ends from there."""

    denoise: Denoise
    x: Tensor
    end: Tensor

    def errors(self, x: Tensor) -> list[float]:
        """RMS of x - end over that of the end, for each image; inf where x is not finite."""
        away = (x - self.end).float().square().flatten(1).mean(1).sqrt()
        found = (away / self.norms()).tolist()
        return [error if math.isfinite(error) else math.inf for error in found]

    def norms(self) -> Tensor:
        """RMS of each end, [b]."""
        return self.end.float().square().flatten(1).mean(1).sqrt()


class Walked(NamedTuple):
    """The states of a walk, the last of them its end, and what the model answered at each but the last."""

    states: list[Tensor]
    values: list[Tensor]


def walk(one: Trajectories, solver: Solver, before: Walked | None = None, step: int = 0) -> Walked:
    """A walk with this solver; from `step` on, where the steps and the evaluations `before` are the same."""
    states = [*before.states[: step + 1]] if before else [one.x]
    values = [*before.values[: step + 1]] if before else []
    for k in range(step, len(solver.rows)):
        if len(values) <= k:
            values.append(one.denoise(states[k], solver.sigmas[k]))
        row = solver.rows[k]
        past = values[k::-1][: len(row.weights)]
        states.append(combine(states[k], row.decay, past, row.weights))
    return Walked(states, values)


def ends(sets: Sequence[Trajectories], solver: Solver) -> list[float]:
    """Errors of all trajectories with this solver."""
    return [error for one in sets for error in one.errors(walk(one, solver).states[-1])]


def typical(errors: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(max(error, 1e-12)) for error in errors))


def loss(errors: Sequence[float], scale: float) -> float:
    """Mean of log(e^2 + scale^2)."""
    return statistics.fmean(math.log(error**2 + scale**2) for error in errors)


@dataclass
class Fit:
    """A fit under way.

    How the ends move with the numbers is seen once; each step then corrects it by what it moved (Broyden 1965), until
    no step made with it lowers the loss and it is looked at anew.

    Attributes:
        numbers: what `shape` makes a solver of.
        difference: by how much a number is changed to see what it does; more where the network computes in fp16.
        now: for each batch its ends with these numbers.
        moves: for each batch how they move with each number, [numbers, b * ...] on the CPU; empty before.
    """

    shape: Shape
    numbers: list[float]
    sets: Sequence[Trajectories]
    difference: float = 2e-3
    now: list[Tensor] = field(default_factory=list)
    moves: list[Tensor] = field(default_factory=list)

    def improve(self) -> bool:
        """One step that lowers the loss; False where there is none."""
        fresh = not self.moves
        if fresh:
            self._see()
        if self._step(self.now):
            return True
        self.moves = []
        return not fresh and self.improve()

    def error(self) -> float:
        """The typical error with these numbers, after `improve`."""
        return typical(self._errors(self.now))

    def _see(self) -> None:
        """Walks with the numbers, and with each of them changed."""
        solver = self._solver(self.numbers)
        walked = [walk(one, solver) for one in self.sets]
        self.now = [done.states[-1] for done in walked]
        self.moves = [self._seen(one, done) for one, done in zip(self.sets, walked, strict=True)]

    def _step(self, before: Sequence[Tensor]) -> bool:
        errors = self._errors(before)
        scale = max(SOFT * statistics.median(errors), 1e-6)
        matrix, side = self._normal(before, scale)
        now = loss(errors, scale)
        for dampings in (DAMPINGS, STRONGER):
            for numbers, begun in self._tried(matrix, side, dampings, scale):
                after = [*begun, *self._ends(numbers, slice(len(begun), None))]
                if loss(self._errors(after), scale) < now:
                    self._learn(numbers, before, after)
                    return True
        return False

    def _tried(
        self, matrix: Tensor, side: Tensor, dampings: Sequence[float], scale: float
    ) -> list[tuple[list[float], list[Tensor]]]:
        """The two best of these steps by their loss on the first of the sets: the numbers, and where those end."""
        found = []
        for damping in dampings:
            numbers = self._trial(matrix, side, damping)
            if self.shape.solver(numbers) is not None:
                begun = self._ends(numbers, slice(self._few()))
                found.append((loss(self._errors(begun), scale), numbers, begun))
        return [(numbers, begun) for _, numbers, begun in sorted(found, key=lambda one: one[0])[:2]]

    def _few(self) -> int:
        """How many of the sets hold enough images to choose a damping by."""
        images = accumulate(len(one.x) for one in self.sets)
        return next((k for k, held in enumerate(images, 1) if held >= ENOUGH), len(self.sets))

    def _ends(self, numbers: Sequence[float], which: slice) -> list[Tensor]:
        solver = self._solver(numbers)
        return [walk(one, solver).states[-1] for one in self.sets[which]]

    def _errors(self, found: Sequence[Tensor]) -> list[float]:
        return [error for one, end in zip(self.sets, found, strict=False) for error in one.errors(end)]

    def _solver(self, numbers: Sequence[float]) -> Solver:
        found = self.shape.solver(numbers)
        assert found is not None  # only such numbers are kept
        return found

    def _trial(self, matrix: Tensor, side: Tensor, damping: float) -> list[float]:
        damped = matrix + damping * torch.diag(matrix.diag())
        floor = 1e-12 * matrix.diag().max() * torch.eye(len(matrix), dtype=matrix.dtype)
        step = torch.linalg.solve(damped + floor, side)
        return [number + move for number, move in zip(self.numbers, step.tolist(), strict=True)]

    def _normal(self, before: Sequence[Tensor], scale: float) -> tuple[Tensor, Tensor]:
        """J^T W J and J^T W r over all trajectories."""
        count = len(self.numbers)
        matrix = torch.zeros(count, count, dtype=torch.float64)
        side = torch.zeros(count, dtype=torch.float64)
        for one, end, moves in zip(self.sets, before, self.moves, strict=True):
            error = torch.tensor(one.errors(end), dtype=torch.float64)
            weight = (1 / (error**2 + scale**2)).sqrt().nan_to_num(0.0) / one.norms().double().cpu()
            weights = weight.repeat_interleave(end[0].numel())
            rows = moves.double() * weights
            matrix += rows @ rows.T
            side += rows @ (_flat(one.end - end).double() * weights)
        return matrix, side

    def _seen(self, one: Trajectories, done: Walked) -> Tensor:
        """How the ends of one batch move with each number."""
        found = []
        for place, step in enumerate(self.shape.first_steps()):
            numbers = list(self.numbers)
            numbers[place] += self.difference
            end = walk(one, self._solver(numbers), done, step).states[-1]
            found.append(_flat(end - done.states[-1]) / self.difference)
        return torch.stack(found)

    def _learn(self, numbers: list[float], before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Takes the numbers; the moves become those nearest to the known ones that lead from before to after."""
        step = torch.tensor(numbers) - torch.tensor(self.numbers)
        for moves, start, end in zip(self.moves, before, after, strict=True):
            wrong = _flat(end - start) - step @ moves
            moves += torch.outer(step / step.square().sum(), wrong)
        self.numbers, self.now = numbers, list(after)


def _flat(x: Tensor) -> Tensor:
    """x [b, ...] in one row of float32 on the CPU; 0 where it is not finite."""
    return x.float().flatten().cpu().nan_to_num(0.0, 0.0, 0.0)
