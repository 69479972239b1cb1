"""DPM-Solver and DPM-Solver++ in one step: predictions at levels inside the step raise the order.

A step of order p evaluates the model at p levels; the value at each is a step of lower order from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from .dpm_multistep import QUIET, solver_type
from .dpm_step import FAMILY, PLAIN, PLUS, Known, Rule, Solver, exact, midpoint
from .process import Process
from .spec import Method, Option, Run, sampler

# (which evaluation of its step, its level, the level its value leads to)
Stage = tuple[int, float, float]
# which of a step's predictions, by which rule, give a value
Way = tuple[tuple[int, ...], Rule]
# the way on from each evaluation of a step
Scheme = tuple[Way, ...]
TWO_THIRDS: Way = ((0, 2), exact)  # of order 3 for the third level at 2/3 of the step
SCHEMES: dict[str, Scheme] = {
    "midpoint": (((0,), exact), ((0, 1), midpoint), TWO_THIRDS),
    "heun": (((0,), exact), ((0, 1), exact), ((0, 1, 2), exact)),
    "published": (((0,), exact), ((0, 1), exact), TWO_THIRDS),
}
INSIDE = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


def singlestep(
    run: Run, x: Tensor, stages: Iterable[Stage], scheme: Scheme, solver: Solver, s_noise: float = 1.0
) -> Method:
    """Walk the stages; each goes on from x where its step began. A stage to sigma 0 gives denoised."""
    at, begin, here, known = x, 0.0, solver, list[Known]()
    for stage, sigma, target in stages:
        denoised = yield at, sigma
        if target == 0.0:
            return denoised
        if stage == 0:
            x, begin, here, known = at, sigma, solver.starting(sigma), []
        known.append(here.known(at, denoised, sigma))
        at, std = follow(scheme[stage], here, x, begin, target, known)
        at = run.add_noise(at, 1.0, std * s_noise, begin, target)
    return at


def follow(
    way: Way, solver: Solver, x: Tensor, sigma: float, target: float, known: Sequence[Known]
) -> tuple[Tensor, float]:
    """`solver.advance` by a way."""
    which, rule = way
    return solver.advance(x, sigma, target, [known[i] for i in which], rule)


def within(levels: Process, sigma: float, target: float, fractions: Sequence[float]) -> Iterator[Stage]:
    """The stages of one step, at these fractions of it in lambda; a step to sigma 0 has one."""
    inside = [levels.between(sigma, target, fraction) for fraction in fractions] if target else []
    for stage, (here, there) in enumerate(pairwise([sigma, *inside, target])):
        yield stage, here, there


def divided(run: Run, fractions: Sequence[float]) -> Iterator[Stage]:
    """The stages of steps along `run.sigmas`."""
    for sigma, target in run.steps():
        yield from within(run.levels, sigma, target, fractions)


PLACE = Option("r", 0.5, 0.1, 1.0, "where in lambda the second evaluation lies")
THREE = Option(
    "solver_type",
    "published",
    help="last two rules; published uses two predictions each",
    choices=("published", "heun"),
)


@sampler(
    "dpmpp_2s",
    label="DPM++ 2S",
    order=2,
    evaluations=2,
    family=FAMILY,
    noise_option="eta",
    paper=PLUS,
    options=(*QUIET, PLACE, solver_type("midpoint")),
)
def dpmpp_2s(run: Run, x: Tensor) -> Method:
    """From denoised at sigma and at the fraction r of the step in lambda."""
    return _inside(run, x, (run.r,), Solver(run.levels, run.eta), run.s_noise)


@sampler(
    "dpmpp_3s",
    label="DPM++ 3S",
    order=3,
    evaluations=3,
    family=FAMILY,
    noise_option="eta",
    paper=PLUS,
    options=(*QUIET, THREE),
)
def dpmpp_3s(run: Run, x: Tensor) -> Method:
    """From denoised at sigma and at 1/3 and 2/3 of the step in lambda."""
    return _inside(run, x, INSIDE[3], Solver(run.levels, run.eta), run.s_noise)


@sampler(
    "dpm_solver_2s",
    label="DPM-Solver 2S",
    order=2,
    evaluations=2,
    family=FAMILY,
    aliases=("dpm_solver_2",),
    paper=PLAIN,
    options=(PLACE, solver_type("midpoint")),
)
def dpm_solver_2s(run: Run, x: Tensor) -> Method:
    """DPM++ 2S in terms of the predicted noise: DPM-Solver-2."""
    return _inside(run, x, (run.r,), Solver(run.levels, noise=True))


@sampler(
    "dpm_solver_3s",
    label="DPM-Solver 3S",
    order=3,
    evaluations=3,
    family=FAMILY,
    aliases=("dpm_solver_3",),
    paper=PLAIN,
    options=(THREE,),
)
def dpm_solver_3s(run: Run, x: Tensor) -> Method:
    """DPM++ 3S in terms of the predicted noise: DPM-Solver-3."""
    return _inside(run, x, INSIDE[3], Solver(run.levels, noise=True))


def _inside(run: Run, x: Tensor, fractions: Sequence[float], solver: Solver, s_noise: float = 1.0) -> Method:
    return singlestep(run, x, divided(run, fractions), SCHEMES[run.solver_type], solver, s_noise)
