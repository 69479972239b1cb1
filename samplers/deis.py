"""DEIS: Adams-Bashforth steps with the polynomial in a time of choice (arXiv:2204.13902)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from .exponential_multistep import Step, as_noise, multistep
from .exponential_steps import noise_step
from .phi import adams
from .process import Process
from .quadrature import over_sigma
from .spec import Method, Option, Run, sampler
from .unipc import lower_order_final, steps_left

# the polynomial's variable: the time of the process whose noise rate grows from 0 in proportion to it, or sigma
TIMES: dict[str, Callable[[float], float]] = {
    "tab": lambda sigma: math.sqrt(math.log1p(sigma * sigma)),
    "rhoab": lambda sigma: sigma,
}


def as_slope(levels: Process, x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """f = (x - denoised) / sigma = dx / dsigma: the noise where alpha is 1, the velocity on rectified flow."""
    return x.sub(denoised).div_(sigma)


def slope_step(levels: Process, sigma: float, sigma_next: float, places: Sequence[float], mode: str) -> Step:
    """x_next = x + the integral over sigma of the polynomial in the mode's time through the slopes."""
    time, width = TIMES[mode], sigma_next - sigma
    start = time(sigma)
    span = time(sigma_next) - start
    integrals = [0.0] * len(places)
    for s, weight in over_sigma(levels, sigma, sigma_next):
        u = (time(s) - start) / span
        for n in range(len(places)):
            integrals[n] += weight * u**n
    integrals[0] = width
    return Step(1.0, adams([(time(at) - start) / span for at in places], integrals))


@sampler(
    "deis",
    label="DEIS",
    order=3,
    family="Exponential multistep",
    aliases=("deis_multistep",),
    paper="arXiv:2204.13902",
    options=(
        Option("max_order", 3, 1, 4, "evaluations each step goes by"),
        Option(
            "deis_mode",
            "tab",
            help="variable of the polynomial: time, sigma, log-SNR",
            choices=("tab", "rhoab", "logrho"),
        ),
        lower_order_final("never"),
    ),
)
def deis(run: Run, x: Tensor) -> Method:
    """The integral over the polynomial through the last slopes (tab, rhoab) or noise predictions (logrho).

    The first steps have a lower order.
    """
    levels, mode = run.levels, run.deis_mode

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        if mode == "logrho":
            return noise_step(levels, sigma, sigma_next, places)
        return slope_step(levels, sigma, sigma_next, places, mode)

    def orders(step: int) -> tuple[int, int]:
        return min(run.max_order, steps_left(run, step)), 0

    return multistep(run, x, kernel, orders, as_noise if mode == "logrho" else as_slope)
