"""Improved PNDM: linear multistep steps that start at order 1 (arXiv:2202.09778), weights fixed or variable."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .lms import final, integrals, multistep
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


@sampler("ipndm_v", label="IPNDM-V", order=4, family="Linear multistep", paper=PAPER, options=OPTIONS)
def ipndm_v(run: Run, x: Tensor) -> Method:
    """IPNDM with the weights of the steps as they are; step k < max_order uses k slopes.

    The weights are exact. Those in circulation under this name (diff-sampler, ComfyUI) agree at orders 1 and 2;
    at 3 and 4 they leave the exact ones and lose an order.
    """
    return multistep(run, x, run.max_order, integrals)
