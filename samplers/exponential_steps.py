"""Steps of exponential multistep methods: the exact integral over a polynomial in half-log-SNR, data or noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from .exponential_multistep import Step
from .phi import adams, moments
from .process import Process
from .quadrature import over_sigma

Adams = Callable[[Sequence[float], list[float]], list[float]]
Points = Callable[[Process, float, float], Iterable[tuple[float, float]]]


def data_step(
    levels: Process,
    sigma: float,
    sigma_next: float,
    places: Sequence[float],
    eta: float = 0.0,
    rule: str = "exact",
) -> Step:
    """The diffusion SDE of `levels.sde` with denoised the polynomial in lambda through the places; eta 0 is the ODE.

    Weights are alpha_next times the integral of (1 + eta) exp(-(1 + eta) (lambda_next - lambda)) L_j(lambda). Where
    lambda is infinite (alpha = 0) at the start or at a place, the polynomial is one in sigma.

    Args:
        rule: one of RULES; only "exact" is the integral.
    """
    decay, _, std = levels.sde(sigma, sigma_next, eta)
    start, end = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
    lambdas = [levels.half_log_snr(at) for at in places]
    if math.isinf(min(start, *lambdas)):
        weights = weights_by_parts(
            levels, sigma, sigma_next, places, lambda s: rise(levels, s, sigma_next, eta)
        )
        return Step(decay, weights, std)
    h = end - start
    k = (1 + eta) * h
    weights = adams([(at - start) / h for at in lambdas], RULES[rule](moments(-k, len(places))))
    return Step(decay, [levels.alpha(sigma_next) * k * w for w in weights], std)


def rise(levels: Process, sigma: float, sigma_next: float, eta: float = 0.0) -> float:
    """exp(-(1 + eta) (lambda_next - lambda)): from 0 where alpha is 0 to 1 at sigma_next."""
    return (levels.alpha(sigma) * sigma_next / (sigma * levels.alpha(sigma_next))) ** (1 + eta)


def weights_by_parts(
    levels: Process,
    sigma: float,
    sigma_next: float,
    places: Sequence[float],
    g: Callable[[float], float],
    solve: Adams = adams,
    points: Points = over_sigma,
) -> list[float]:
    """Weights of denoised: alpha_next times the integral of D dg over the step, g(sigma) rising to g(sigma_next) = 1.

    D is the polynomial in rho = sigma / alpha through the places, in sigma where alpha is 0 at one of them. With v that
    variable from 0 to 1 along the step, the integral of v^n dg is 1 - n times that of g v^(n - 1) dv, by `points`.
    """
    power = 1 if all(map(levels.alpha, (sigma, *places))) else 0  # v goes with sigma / alpha^power

    def along(s: float) -> float:
        return s / levels.alpha(s) ** power

    start, width = along(sigma), along(sigma_next) - along(sigma)
    integrals = [1 - g(sigma)] + [1.0] * (len(places) - 1)
    for s, weight in points(levels, sigma, sigma_next) if len(places) > 1 else ():
        v, share = (along(s) - start) / width, weight / levels.alpha(s) ** (2 * power) / width * g(s)
        for n in range(1, len(places)):
            integrals[n] -= n * share * v ** (n - 1)
    return [
        levels.alpha(sigma_next) * w for w in solve([(along(at) - start) / width for at in places], integrals)
    ]


def noise_step(
    levels: Process, sigma: float, sigma_next: float, places: Sequence[float], rule: str = "exact"
) -> Step:
    """x_next = (alpha_next / alpha) x - sigma_next times the integral of exp(lambda_next - lambda) eps dlambda.

    From where alpha is 0, the step that is exact for a constant denoised; such a place has weight 0 afterwards.
    """
    alpha = levels.alpha(sigma)
    if alpha == 0.0:
        decay, gain = levels.exact(sigma, sigma_next)
        return Step(decay, [gain if at == sigma else 0.0 for at in places])
    start, end = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
    h = end - start
    nodes = [(levels.half_log_snr(at) - start) / h for at in places if levels.alpha(at)]
    weights = adams(nodes, RULES[rule](moments(h, len(nodes))))
    return Step(levels.alpha(sigma_next) / alpha, [-sigma_next * h * w for w in weights])


def _two(integrals: list[float], slope: float) -> list[float]:
    return [integrals[0], slope] if len(integrals) == 2 else integrals


def _three(integrals: list[float]) -> list[float]:
    return [*integrals[:2], 2 / 3 * integrals[1]] if len(integrals) == 3 else integrals


# what stands for the integrals of 1, u, u^2 ... over the step, u = 0 ... 1; each agrees to the order it has
RULES: dict[str, Callable[[list[float]], list[float]]] = {
    "exact": lambda integrals: integrals,
    "bh1": lambda integrals: _two(integrals, 0.5),
    "bh2": lambda integrals: _two(integrals, integrals[0] / 2),
    "res": _three,
}
