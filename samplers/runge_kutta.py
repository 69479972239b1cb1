"""The explicit Runge-Kutta methods of tableaux.py, in sigma."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .spec import Method, Option, Run, Walker, sampler
from .tableaux import TABLEAUX, Tableau

Stepping = Callable[[Tensor, float, float], Method]
QUIET = (
    Option("eta", 0.0, 0.0, 10.0, "share of the ancestral noise; 0 is the plain ODE"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)


def ancestral_walk(run: Run, x: Tensor, step: Stepping) -> Method:
    """`step` to sigma_down, which eta 0 makes sigma_next, then noise up to sigma_next."""
    for sigma, sigma_next in run.steps():
        down = run.levels.ancestral(sigma, sigma_next, run.eta)
        x = yield from step(x, sigma, down)
        scale, std = run.levels.renoise(down, sigma_next)
        x = run.add_noise(x, scale, std * run.s_noise, sigma, sigma_next)
    return x


def explicit_step(tableau: Tableau, x: Tensor, sigma: float, sigma_next: float) -> Method:
    """x_i = x + (sigma_next - sigma) sum_j a_ij (x_j - denoised_j) / sigma_j, at sigma + c_i (sigma_next - sigma).

    To sigma 0, where the slope of a stage would be 0 / 0, the step is Euler's: x_next = denoised.
    """
    h, at, place = sigma_next - sigma, x, sigma
    rates: list[float] = []
    residuals: list[Tensor] = []
    for c, weights in tableau.stages:
        denoised = yield at, place
        if sigma_next == 0.0:
            return denoised
        rates.append(h / place)
        residuals.append(at - denoised)
        at = plus(x, residuals, rates, weights)
        place = sigma + c * h
    return at


def plus(x: Tensor, residuals: Sequence[Tensor], rates: Sequence[float], weights: Sequence[float]) -> Tensor:
    """x + sum_j weights_j rates_j residuals_j in a new tensor, without a pass for a weight of 0."""
    terms = [(r, rate * w) for r, rate, w in zip(residuals, rates, weights, strict=True) if w != 0.0]
    (first, weight), *rest = terms
    out = x.add(first, alpha=weight)
    for residual, weight in rest:
        out.add_(residual, alpha=weight)
    return out


def _walker(tableau: Tableau) -> Walker:
    def walk(run: Run, x: Tensor) -> Method:
        return ancestral_walk(run, x, lambda *step: explicit_step(tableau, *step))

    walk.__doc__ = f"Explicit Runge-Kutta in sigma, {len(tableau.rows)} stages: {tableau.paper}."
    return walk


for _row in TABLEAUX:
    sampler(
        _row.name,
        label=_row.label,
        order=_row.order,
        evaluations=len(_row.rows),
        family="Runge-Kutta",
        noise_option="eta",
        aliases=_row.aliases,
        paper=_row.paper,
        options=QUIET,
    )(_walker(_row))
