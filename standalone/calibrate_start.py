"""Where a calibration begins, and what it must beat: general ways tried on some of the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..core.errors import OptionError
from ..samplers import NoiseLevels, drive
from ..samplers.calibrate_fit import Trajectories, ends, typical
from ..samplers.calibrate_shape import Shape, Solver, solver_of
from ..samplers.calibrate_steps import Deviations
from ..samplers.general import General, serving
from .calibrate_walks import Batch


def sets_of(batches: Sequence[Batch], first: float) -> list[Trajectories]:
    """The walks of these batches from this level."""
    return [batch.trajectories(first) for batch in batches]


def fit_error(shape: Shape, numbers: Sequence[float], batches: Sequence[Batch]) -> float:
    """The typical error of the solver of these numbers; inf where there is none."""
    solver = shape.solver(numbers)
    return math.inf if solver is None else typical(ends(sets_of(batches, shape.first), solver))


def ways_of(steps: int, levels: NoiseLevels) -> Iterator[General]:
    """The general ways that have so many steps for such a model."""
    for way in serving(levels):
        try:
            way.sigmas(steps, levels)
        except OptionError:
            continue  # its schedule has not so few, or so many
        yield way


def way_error(way: General, steps: int, batches: Sequence[Batch]) -> float:
    """The typical error of a general way."""
    errors: list[float] = []
    for batch in batches:
        sigmas = way.sigmas(steps, batch.levels)
        one = batch.trajectories(sigmas[0])
        end = drive(way.sampler, one.denoise, one.x, sigmas, levels=batch.levels, options=way.options)
        errors += one.errors(end)
    return typical(errors)


def ranked(steps: int, batches: Sequence[Batch]) -> list[General]:
    """The general ways, those that err least first."""
    scored = [(way_error(way, steps, batches), way) for way in ways_of(steps, batches[0].levels)]
    return [way for _, way in sorted(scored, key=lambda pair: pair[0])]


def starts_of(
    ways: Sequence[General], deviations: Deviations, steps: int, batches: Sequence[Batch], count: int
) -> list[dict[str, Any]]:
    """The best `count` of these ways, and of a first-order one on the levels of least deviation, as numbers to fit."""
    levels = batches[0].levels
    solvers: list[Solver] = [
        solver_of(way.sampler, way.sigmas(steps, levels), levels, way.options) for way in ways
    ]
    if deviations.cost.any():
        solvers.append(solver_of("euler", deviations.best(steps), levels))
    scored = []
    for solver in solvers:
        shape = Shape(levels, solver.sigmas[0], steps)
        numbers = shape.numbers(solver)
        scored.append((fit_error(shape, numbers, batches), shape.first, numbers))
    scored.sort(key=lambda item: item[0])
    return [{"first": first, "numbers": numbers, "rounds": 0} for _, first, numbers in scored[:count]]
