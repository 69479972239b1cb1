"""Exponential Adams-Bashforth methods in denoised: the refined exponential solver and those of Norsett."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .euler import ANCESTRAL
from .exponential_multistep import Step, multistep
from .exponential_steps import data_step
from .spec import Method, Option, Run, sampler

RES = "arXiv:2308.02157"
FAMILY = "Exponential multistep"
ETA = (
    Option("eta", 0.0, 0.0, 10.0, "noise of the SDE; 0 is the ODE"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)
SPACING = Option(
    "spacing",
    "exact",
    help="nodes where the evaluations were, or as if all steps were even",
    choices=("exact", "even"),
)


@dataclass(frozen=True)
class Row:
    """`places` evaluations a step; `rule` of exponential_steps.RULES."""

    name: str
    label: str
    places: int
    rule: str
    paper: str
    options: tuple[Option, ...] = ETA


ROWS = (
    Row("res_2m", "RES 2M", 2, "exact", RES),
    Row("res_3m", "RES 3M", 3, "res", RES),
    Row("abnorsett_2m", "ABNorsett 2M", 2, "exact", "Norsett 1969", (*ETA, SPACING)),
    Row("abnorsett_3m", "ABNorsett 3M", 3, "exact", "Norsett 1969", (*ETA, SPACING)),
    Row("abnorsett_4m", "ABNorsett 4M", 4, "exact", "Norsett 1969", (*ETA, SPACING)),
)


def _register(row: Row) -> None:
    def method(run: Run, x: Tensor) -> Method:
        """decay x + sum_j w_j D_j + std noise: exact for D a polynomial in lambda through the last denoised.

        "res" takes 2/3 of the slope's weight for the curvature's, which agrees to its order. Even spacing bounds the
        weights on any schedule, and has order 2 at most. The first steps have a lower order.
        """

        def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
            if SPACING in row.options and run.spacing == "even" and run.levels.alpha(sigma):
                places = [run.levels.between(sigma, sigma_next, -j) for j in range(len(places))]
            return data_step(run.levels, sigma, sigma_next, places, run.eta, row.rule)

        return multistep(run, x, kernel, lambda step: (row.places, 0), s_noise=run.s_noise)

    declared = {"family": FAMILY, "paper": row.paper, "options": row.options, "order": row.places}
    sampler(row.name, label=row.label, noise_option="eta", brownian=True, **declared)(method)


@sampler("res_multistep", label="RES multistep", order=2, family=FAMILY, aliases=("res_solver",), paper=RES)
def res_multistep(run: Run, x: Tensor) -> Method:
    """decay x + w_1 D + w_2 D_before: exact for D linear in lambda. The first step has order 1."""

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        return data_step(run.levels, sigma, sigma_next, places)

    return multistep(run, x, kernel, lambda step: (2, 0))


@sampler(
    "res_multistep_ancestral",
    label="RES multistep a",
    order=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    paper=RES,
    options=ANCESTRAL,
)
def res_multistep_ancestral(run: Run, x: Tensor) -> Method:
    """The step of RES multistep to sigma_down, then noise up to sigma_next.

    The last denoised counts as far back as the last step went to its own sigma_down: denoised changed along that way,
    and what the noise undid of it is no part of the slope.
    """
    levels = run.levels

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        down = levels.ancestral(sigma, sigma_next, run.eta)
        scale, std = levels.renoise(down, sigma_next)
        if down == 0.0:
            return Step(0.0, [scale], std)
        step = data_step(levels, sigma, down, [sigma, *(_back(run, at, sigma) for at in places[1:])])
        return Step(scale * step.decay, [scale * weight for weight in step.weights], std)

    return multistep(run, x, kernel, lambda step: (2, 0), s_noise=run.s_noise)


def _back(run: Run, before: float, sigma: float) -> float:
    """The level that is as far above sigma, in lambda, as `before` is above the sigma_down of the step to sigma."""
    levels, down = run.levels, run.levels.ancestral(before, sigma, run.eta)
    if down == 0.0 or levels.alpha(before) == 0.0:
        return before
    way = levels.half_log_snr(before) - levels.half_log_snr(down)
    return levels.sigma_of(levels.half_log_snr(sigma) + way)


for _row in ROWS:
    _register(_row)
