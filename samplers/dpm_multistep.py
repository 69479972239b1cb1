"""DPM-Solver and DPM-Solver++ in several steps: predictions of earlier steps raise the order, none is made twice."""

from __future__ import annotations

import math
from collections import deque

from torch import Tensor

from .dpm_step import FAMILY, PLAIN, PLUS, Known, Rule, Solver, exact, halved, midpoint
from .euler import ANCESTRAL
from .spec import Method, Option, Run, sampler

FEW = 15  # walks of fewer steps are those that lower_order_final is about
QUIET = (
    Option("eta", 0.0, 0.0, 10.0, "share of the SDE's noise; 0 is the ODE"),
    ANCESTRAL[1],
)
CURVATURE = Option(
    "curvature",
    "published",
    help="weight of the second difference; published is half the exact one and loses an order",
    choices=("published", "exact"),
)
SOLVER_ORDER = Option("solver_order", 3, 1, 3, "predictions each step goes by")


def solver_type(default: str) -> Option:
    """The option that chooses the rule of a step with two predictions."""
    return Option("solver_type", default, help="rule of second-order steps", choices=("midpoint", "heun"))


def lower_order_final(default: int) -> Option:
    """The 0 / 1 option that ends a walk with steps of lower order."""
    return Option("lower_order_final", default, 0, 1, "1: steps of order 2 and 1 end a walk of few steps")


FINAL = (lower_order_final(0), Option("euler_at_final", 0, 0, 1, "1: the last step is of order 1"))


def multistep(
    run: Run, x: Tensor, order: int, solver: Solver, s_noise: float = 1.0, curvature: str = "published"
) -> Method:
    """The polynomial f of dpm_step through the predictions of the last `order` steps.

    Step k < order has order k, and so has step k after one from alpha 0, whose prediction has no lambda. One to
    sigma 0 gives denoised. With lower_order_final the last two steps of fewer than 15 have at most order 2 and 1;
    euler_at_final is the last alone.
    """
    second = midpoint if run.solver_type == "midpoint" else exact
    rules: tuple[Rule, ...] = (exact, second, halved if curvature == "published" else exact)
    past: deque[Known] = deque(maxlen=order)
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        here = solver.starting(sigma)
        older = [known for known in past if math.isfinite(known.place)]
        past.appendleft(here.known(x, denoised, sigma))
        known = [past[0], *older][: min(order, _limit(run))]
        x, std = here.advance(x, sigma, sigma_next, known, rules[len(known) - 1])
        x = run.add_noise(x, 1.0, std * s_noise, sigma, sigma_next)
    return x


def _limit(run: Run) -> int:
    """The order this step may have at most, for the sake of the end."""
    steps = len(run.sigmas) - 1
    left = steps - run.index
    lower = run.lower_order_final and steps < FEW
    if left == 1 and (lower or run.euler_at_final):
        return 1
    return 2 if left == 2 and lower else 3


@sampler(
    "dpmpp_2m",
    label="DPM++ 2M",
    order=2,
    family=FAMILY,
    aliases=("k_dpmpp_2m", "dpmpp2m", "dpmsolver++", "dpmsolver_multistep"),
    paper=PLUS,
    options=(solver_type("midpoint"), *FINAL),
)
def dpmpp_2m(run: Run, x: Tensor) -> Method:
    """Second-order multistep, from the denoised of this step and the last."""
    return multistep(run, x, 2, Solver(run.levels))


@sampler(
    "dpmpp_2m_sde",
    label="DPM++ 2M SDE",
    order=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    brownian=True,
    default_schedule="exponential",
    aliases=("k_dpmpp_2m_sde",),
    paper=PLUS,
    options=(*ANCESTRAL, solver_type("midpoint"), *FINAL),
)
def dpmpp_2m_sde(run: Run, x: Tensor) -> Method:
    """The multistep method on the diffusion SDE; eta 0 is the ODE."""
    return multistep(run, x, 2, Solver(run.levels, run.eta), run.s_noise)


@sampler(
    "dpmpp_3m",
    label="DPM++ 3M",
    order=2,
    family=FAMILY,
    paper=PLUS,
    options=(SOLVER_ORDER, solver_type("heun"), CURVATURE, *FINAL),
)
def dpmpp_3m(run: Run, x: Tensor) -> Method:
    """Multistep from the last three denoised; of order 3 with curvature exact, of order 2 as published."""
    return multistep(run, x, run.solver_order, Solver(run.levels), curvature=run.curvature)


@sampler(
    "dpmpp_3m_sde",
    label="DPM++ 3M SDE",
    order=2,
    family=FAMILY,
    stochastic=True,
    noise_option="eta",
    brownian=True,
    default_schedule="exponential",
    aliases=("k_dpmpp_3m_sde",),
    paper=PLUS,
    options=(*ANCESTRAL, SOLVER_ORDER, solver_type("heun"), CURVATURE, *FINAL),
)
def dpmpp_3m_sde(run: Run, x: Tensor) -> Method:
    """DPM++ 3M on the diffusion SDE; eta 0 is the ODE."""
    return multistep(run, x, run.solver_order, Solver(run.levels, run.eta), run.s_noise, run.curvature)


@sampler(
    "dpm_solver_2m",
    label="DPM-Solver 2M",
    order=2,
    family=FAMILY,
    noise_option="eta",
    aliases=("dpmsolver",),
    paper=PLAIN,
    options=(*QUIET, solver_type("midpoint"), *FINAL),
)
def dpm_solver_2m(run: Run, x: Tensor) -> Method:
    """DPM++ 2M in terms of the predicted noise; at sigma 0 and from alpha 0 in terms of denoised."""
    return multistep(run, x, 2, Solver(run.levels, run.eta, noise=True), run.s_noise)


@sampler(
    "dpm_solver_3m",
    label="DPM-Solver 3M",
    order=2,
    family=FAMILY,
    noise_option="eta",
    paper=PLAIN,
    options=(*QUIET, SOLVER_ORDER, solver_type("heun"), CURVATURE, *FINAL),
)
def dpm_solver_3m(run: Run, x: Tensor) -> Method:
    """DPM++ 3M in terms of the predicted noise; of order 3 with curvature exact, of order 2 as published."""
    solver = Solver(run.levels, run.eta, noise=True)
    return multistep(run, x, run.solver_order, solver, run.s_noise, run.curvature)
