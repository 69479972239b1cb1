"""ER-SDE: solvers of the extended reverse-time SDE, whose noise is a function of choice (arXiv:2309.06169)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from .exponential_multistep import Step, multistep
from .exponential_steps import Adams, Points, rise, weights_by_parts
from .phi import adams
from .process import Process
from .quadrature import over_sigma
from .spec import Method, Option, Run, sampler


def _paper(log_rho: float) -> float:
    power = math.exp(0.3 * log_rho)
    return power + math.log1p(10 * math.exp(-power))


# log(psi) by log(rho): the noise scale function of rho = sigma / alpha is phi = rho psi^eta
SCALES: dict[str, Callable[[float], float]] = {
    "ER-SDE": _paper,  # psi = exp(rho^0.3) + 10
    "Reverse-time SDE": lambda log_rho: log_rho,
    "ODE": lambda log_rho: 0.0,
}


def kept(levels: Process, sigma: float, sigma_next: float, kind: str, eta: float) -> float:
    """(psi(rho_next) / psi(rho))^eta: the share of its noise that x keeps from sigma to sigma_next; 1 on the ODE."""
    if eta == 0.0 or kind == "ODE":
        return 1.0
    if levels.alpha(sigma) == 0.0:
        return 0.0
    scale = SCALES[kind]
    return math.exp(eta * (scale(-levels.half_log_snr(sigma_next)) - scale(-levels.half_log_snr(sigma))))


def er_step(
    levels: Process,
    sigma: float,
    sigma_next: float,
    places: Sequence[float],
    kind: str = "ODE",
    eta: float = 0.0,
    solve: Adams = adams,
    points: Points = over_sigma,
) -> Step:
    """x_next = k (sigma_next / sigma) x + alpha_next (integral of D dg) + sigma_next sqrt(1 - k^2) noise.

    g = phi(rho_next) / phi(rho), k is what is `kept`, and D the polynomial in rho through the places.
    """
    share = kept(levels, sigma, sigma_next, kind, eta)

    def g(s: float) -> float:
        return kept(levels, s, sigma_next, kind, eta) * rise(levels, s, sigma_next)

    weights = weights_by_parts(levels, sigma, sigma_next, places, g, solve, points)
    return Step(share * sigma_next / sigma, weights, sigma_next * math.sqrt(1 - share * share))


def _divided(nodes: Sequence[float], integrals: list[float]) -> list[float]:
    """D' and D'' / 2 as the first and second divided differences, D' not corrected for D''; nodes[0] is 0."""
    if len(nodes) != 3:
        return adams(nodes, integrals)
    _, a, b = nodes
    zero, one, two = integrals
    newest = zero - one / a + two / (a * b)
    return [newest, one / a + two / (a * (a - b)), two / (b * (b - a))]


HOSTS_POINTS = 200


def _hosts_points(levels: Process, sigma: float, sigma_next: float) -> Iterable[tuple[float, float]]:
    """As `over_sigma`, by 200 even points of rho from the step's end on: the sum that hosts take for the integral."""
    if levels.alpha(sigma) == 0.0:
        return over_sigma(levels, sigma, sigma_next)
    end = sigma_next / levels.alpha(sigma_next)
    each = (end - sigma / levels.alpha(sigma)) / HOSTS_POINTS
    found = (levels.sigma_of(-math.log(end - place * each)) for place in range(HOSTS_POINTS))
    return [(s, each * levels.alpha(s) ** 2) for s in found]


# how derivatives are taken of the evaluations, and integrals of the noise scale function
DERIVATIVES: dict[str, tuple[Adams, Points]] = {
    "exact": (adams, over_sigma),
    "paper": (_divided, over_sigma),
    "hosts": (_divided, _hosts_points),
}


@sampler(
    "er_sde",
    label="ER-SDE",
    order=3,
    family="SDE",
    stochastic=True,
    noise_option="eta",
    brownian=True,
    aliases=("extended_reverse_sde",),
    paper="arXiv:2309.06169",
    options=(
        Option("max_stage", 3, 1, 3, "evaluations each step goes by"),
        Option("eta", 1.0, 0.0, 100.0, "power of the noise scale function; 0 is the ODE"),
        Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
        Option("solver_type", "ER-SDE", help="the noise scale function", choices=tuple(SCALES)),
        Option(
            "derivatives",
            "exact",
            help="of the polynomial, or the paper's; hosts: the paper's, integrals by a sum of 200 points",
            choices=tuple(DERIVATIVES),
        ),
        Option(
            "corrector_order",
            0,
            0,
            4,
            "evaluations a corrector goes by, the one at the end included; 0: none",
        ),
    ),
)
def er_sde(run: Run, x: Tensor) -> Method:
    """Multistep ER-SDE in denoised over rho = sigma / alpha. The first steps have fewer stages, so a lower order.

    The paper's derivatives give order 2 at 3 stages: its D' is a first difference, which errs by the D'' that it adds.
    """
    kind, eta, chosen = run.solver_type, run.eta, DERIVATIVES[run.derivatives]

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        corrects = places[0] != sigma
        rules = DERIVATIVES["exact"] if corrects else chosen
        return er_step(run.levels, sigma, sigma_next, places, kind, eta, *rules)

    return multistep(run, x, kernel, lambda step: (run.max_stage, run.corrector_order), s_noise=run.s_noise)
