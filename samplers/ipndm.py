"""Improved PNDM: linear multistep steps that start at order 1 (arXiv:2202.09778), weights fixed or variable."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .lms import Weigh, final, integrals, multistep
from .spec import Method, Option, Run, sampler

PAPER = "arXiv:2202.09778"
OPTIONS = (Option("max_order", 4, 1, 4, "slopes each step goes by"), final("denoised"))
# Adams and Bashforth's weights for even steps, newest slope first, in units of the step
EVEN = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def even(sigmas: Sequence[float], step: int, order: int) -> list[float]:
    """The weights of even steps, whatever the steps are: order 2 where their length changes smoothly."""
    h = sigmas[step + 1] - sigmas[step]
    return [h * weight for weight in EVEN[order - 1]]


@sampler("ipndm", label="IPNDM", order=2, family="Linear multistep", paper=PAPER, options=OPTIONS)
def ipndm(run: Run, x: Tensor) -> Method:
    """x + h sum_j w_j d_j with the weights of even steps; step k < max_order uses k slopes."""
    return multistep(run, x, run.max_order, even)


def published(sigmas: Sequence[float], step: int, order: int) -> list[float]:
    """The weights in circulation (diff-sampler, ComfyUI): those of orders 1 and 2 are exact, the others are not.

    Order 2 adds to the slope half the step's ratio to the one before, of their difference. Order 3 adds a second
    difference, 4 a third, each weighed by a product of steps that are taken to be of nearly one length.
    """
    h, *before = [sigmas[i + 1] - sigmas[i] for i in range(step, step - order, -1)]
    weights = [1.0, 0.0, 0.0, 0.0]
    if order > 1:
        a = before[0]
        weights[0], weights[1] = 1 + h / a / 2, -h / a / 2
    if order > 2:
        a, b = before[:2]
        second = (1 - h / (3 * (h + a)) * (h * (h + a)) / (a * (a + b))) / 2
        _add_scaled(weights, second, (1.0, -1 - a / b, a / b))
    if order > 3:
        a, b, c = before
        steps = h * (h + a) * (h + a + b) / (a * (a + b) * (a + b + c))
        third = ((1 - h / (3 * (h + a))) / 2 + (1 - h / (2 * (h + a))) * h / (6 * (h + a + b))) * steps
        ratio = a * (a + b) / (b * (b + c))
        _add_scaled(weights, third, (1.0, -1 - a / b - ratio, a / b + ratio * (1 + b / c), -ratio * a / b))
    return [h * weight for weight in weights[:order]]


def _add_scaled(weights: list[float], scale: float, terms: Sequence[float]) -> None:
    for place, term in enumerate(terms):
        weights[place] += scale * term


WEIGHTS: dict[str, Weigh] = {"exact": integrals, "published": published}


@sampler(
    "ipndm_v",
    label="IPNDM-V",
    order=4,
    family="Linear multistep",
    paper=PAPER,
    options=(
        *OPTIONS,
        Option("weights", "exact", help="published are ComfyUI's, of a lower order", choices=tuple(WEIGHTS)),
    ),
)
def ipndm_v(run: Run, x: Tensor) -> Method:
    """IPNDM with the weights of the steps as they are; step k < max_order uses k slopes.

    The weights are exact. Those in circulation under this name (diff-sampler, ComfyUI) agree at orders 1 and 2;
    at 3 and 4 they leave the exact ones and lose an order: `weights=published`.
    """
    return multistep(run, x, run.max_order, WEIGHTS[run.weights])
