"""SA-Solver, whose noise is on for a part of the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..core.errors import OptionError
from .grid import Grid
from .grid_solver import solver_grid
from .plan import LITTLE
from .row import Config, Options, Row
from .space import Space
from .table_common import BETAS, DYNAMIC, FLOW, LINSPACE, NOISY, PREDICTION, SEQUENCES, in_unit_or_flow

NAME = "SASolverScheduler"


def middle(time: float) -> float:
    """diffusers' tau where none is given: noise between the timesteps 200 and 800."""
    return 1.0 if 200 <= time <= 800 else 0.0


def noisy_steps(tau: Callable[[Any], float], times: Sequence[float]) -> tuple[float, list[int]]:
    """tau where it is not 0, and the steps where it is not. OptionError unless that is one value and one stretch."""
    values = [float(tau(time)) for time in times]
    steps = [number for number, value in enumerate(values) if value != 0.0]
    several = len({values[number] for number in steps}) > 1
    if several or (steps and steps != list(range(steps[0], steps[-1] + 1))):
        raise OptionError("tau_func", NAME, "one value on one stretch of the timesteps, and 0 elsewhere")
    return (values[steps[0]] if steps else 0.0), steps


def stretch(grid: Grid, space: Space, steps: Sequence[int]) -> Options:
    """The sampler's stretch is of the levels that noisy steps end at, in shares of the training times."""
    levels = space.levels
    first, last = levels.time(levels.sigma_max), levels.time(levels.sigma_min)
    times = [levels.time(space.level(ratio)) for ratio in grid.ratios]

    def share(step: int) -> float:
        """Half way between the ends of the step before and of this one."""
        if step >= grid.steps:
            return 1.0
        end = min(times[step + 1], times[step] * (1 - LITTLE))
        return min(max(((times[step] + end) / 2 - first) / (last - first), 0.0), 1.0)

    return {"sde_start_percent": share(steps[0]), "sde_end_percent": share(steps[-1] + 1)}


def options(config: Config, grid: Grid, space: Space) -> Options:
    tau, steps = noisy_steps(config.tau_func or middle, grid.times)
    return {
        "predictor_order": config.predictor_order,
        "corrector_order": config.corrector_order,
        "simple_order_2": "on",
        "lower_order_final": "always" if config.lower_order_final else "never",
        "eta": tau,
        **(stretch(grid, space, steps) if steps else {}),
    }


SA = Row(
    sampler="sa_solver",
    defaults={
        **BETAS,
        "predictor_order": 2,
        "corrector_order": 2,
        **PREDICTION,
        "tau_func": None,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "algorithm_type": "data_prediction",
        "lower_order_final": True,
        **SEQUENCES,
        **FLOW,
        "lambda_min_clipped": -float("inf"),
        "variance_type": None,
        **LINSPACE,
    },
    grid=partial(solver_grid, sequence_end=True),
    space=in_unit_or_flow,
    options=options,
    step=NOISY,
    listed=False,
    pair=False,
    choices={"algorithm_type": ("data_prediction",)},
    limits=("thresholding",),
    eager=True,
)
