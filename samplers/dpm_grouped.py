"""DPM-Solver and DPM-Solver++ in one step over several sigmas of the walk, one evaluation each.

diffusers' singlestep scheduler counts its steps so; `dpmpp_2s` and the like choose their inner levels themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .dpm_multistep import QUIET, lower_order_final, solver_type
from .dpm_singlestep import SCHEMES, Stage, singlestep
from .dpm_step import FAMILY, PLAIN, PLUS, Solver
from .spec import Method, Option, Run, sampler

GROUPED = (
    Option("solver_order", 2, 1, 3, "sigmas to a step"),
    solver_type("midpoint"),
    lower_order_final(1),
)


def orders(count: int, order: int, lower_final: bool = True) -> list[int]:
    """The orders of steps that take `count` evaluations in all.

    As many of `order` as fit, then the rest; where none would be left (and `lower_final`), the last of them is
    divided into order - 1 and 1, so that an end near sigma 0 is of order 1 or 2.
    """
    whole, rest = divmod(count, order)
    if rest:
        return [order] * whole + [rest]
    if not lower_final:
        return [order] * whole
    return [order] * (whole - 1) + [part for part in (order - 1, 1) if part]


def grouped(run: Run, order: int, lower_final: bool) -> Iterator[Stage]:
    """Each of `run.sigmas` a stage; the one before sigma 0 is a step of its own."""
    to_zero = run.sigmas[-1] == 0.0
    parts = orders(len(run.sigmas) - 1, order, lower_final or to_zero)
    if to_zero and parts[-1] > 1:
        parts[-1:] = [parts[-1] - 1, 1]
    numbers = [stage for part in parts for stage in range(part)]
    for stage, (sigma, target) in zip(numbers, run.steps(), strict=True):
        yield stage, sigma, target


@sampler(
    "dpmpp_singlestep",
    label="DPM++ Singlestep",
    order=2,
    family=FAMILY,
    noise_option="eta",
    aliases=("dpmsolver_singlestep",),
    paper=PLUS,
    options=(*QUIET, *GROUPED),
)
def dpmpp_singlestep(run: Run, x: Tensor) -> Method:
    """Steps over `solver_order` sigmas each; one to sigma 0 has order 1, and one of lower order fills up the count.

    With lower_order_final, or a step to sigma 0, an exact fit ends in steps of order solver_order - 1 and 1.
    """
    return _grouped(run, x, Solver(run.levels, run.eta), run.s_noise)


@sampler(
    "dpm_solver_singlestep",
    label="DPM-Solver Singlestep",
    order=2,
    family=FAMILY,
    paper=PLAIN,
    options=GROUPED,
)
def dpm_solver_singlestep(run: Run, x: Tensor) -> Method:
    """DPM++ Singlestep in terms of the predicted noise."""
    return _grouped(run, x, Solver(run.levels, noise=True))


def _grouped(run: Run, x: Tensor, solver: Solver, s_noise: float = 1.0) -> Method:
    stages = grouped(run, run.solver_order, bool(run.lower_order_final))
    return singlestep(run, x, stages, SCHEMES[run.solver_type], solver, s_noise)
