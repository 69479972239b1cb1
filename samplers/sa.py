"""SA-Solver: stochastic Adams predictor-corrector (arXiv:2309.05019), and its ODE."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .exponential_multistep import Step, multistep
from .exponential_steps import data_step
from .spec import Method, Option, Run, sampler
from .unipc import lower_order_final, steps_left

PLACES = (
    Option("predictor_order", 3, 1, 6, "evaluations the predictor goes by"),
    Option("corrector_order", 4, 0, 6, "evaluations the corrector goes by, the one at the end included"),
    Option(
        "simple_order_2",
        "off",
        help="with two evaluations, h / 2 as the slope's weight",
        choices=("on", "off"),
    ),
    lower_order_final(),
)
NEAR = 1e-6  # a sigma at an end of the interval is inside, however it was rounded
TAU = (
    Option("eta", 1.0, 0.0, 10.0, "tau, the strength of the noise; 0 is the ODE"),
    Option(
        "sde_start_percent",
        0.2,
        0.0,
        1.0,
        "noise from this share of the training times, counted from sigma_max",
    ),
    Option("sde_end_percent", 0.8, 0.0, 1.0, "noise up to this share of the training times"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)


def sigma_at(run: Run, percent: float) -> float:
    """The level at this share of the training times, from sigma_max to sigma_min."""
    levels = run.levels
    first, last = levels.time(levels.sigma_max), levels.time(levels.sigma_min)
    return levels.sigma_at(first + percent * (last - first))


def stochastic_adams(run: Run, x: Tensor, tau: float, s_noise: float, again: bool = False) -> Method:
    """decay x + sum_j w_j D_j + std noise (arXiv:2309.05019 eq. 14 and 17), predicted and then corrected.

    The SDE has tau where a step ends between the two percents, else 0. The last steps are capped at as many places
    as there are steps left above sigma 0; in a walk that stops above it, the corrector at one more.
    """
    levels, to_zero = run.levels, run.sigmas[-1] == 0.0
    rule = "bh1" if run.simple_order_2 == "on" else "exact"
    high, low = (
        (sigma_at(run, run.sde_start_percent), sigma_at(run, run.sde_end_percent)) if tau else (0.0, 0.0)
    )

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        eta = tau**2 if low * (1 - NEAR) <= sigma_next <= high * (1 + NEAR) else 0.0
        return data_step(levels, sigma, sigma_next, places, eta, rule)

    def orders(step: int) -> tuple[int, int]:
        left = steps_left(run, step) - to_zero
        return min(run.predictor_order, left), min(run.corrector_order, left + (not to_zero))

    return multistep(run, x, kernel, orders, s_noise=s_noise, again=again)


DECLARED = {"order": 4, "paper": "arXiv:2309.05019"}
NOISY = {
    "family": "SDE",
    "stochastic": True,
    "noise_option": "eta",
    "brownian": True,
    "options": (*TAU, *PLACES),
}


@sampler("sa_solver", label="SA-Solver", aliases=("sasolver",), **DECLARED, **NOISY)
def sa_solver(run: Run, x: Tensor) -> Method:
    """Predict, evaluate, correct: the correction is by the evaluation that the next step makes anyway."""
    return stochastic_adams(run, x, run.eta, run.s_noise)


@sampler("sa_solver_pece", label="SA-Solver PECE", evaluations=2, **DECLARED, **NOISY)
def sa_solver_pece(run: Run, x: Tensor) -> Method:
    """Predict, evaluate, correct, evaluate: no later step goes by an evaluation of a prediction."""
    return stochastic_adams(run, x, run.eta, run.s_noise, again=True)


@sampler("sa_ode", label="SA-ODE", family="Exponential multistep", **DECLARED, options=PLACES)
def sa_ode(run: Run, x: Tensor) -> Method:
    """SA-Solver with tau 0."""
    return stochastic_adams(run, x, 0.0, 1.0)
