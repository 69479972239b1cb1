"""Linear multistep methods in sigma: dx / dsigma = d, d = (x - denoised) / sigma, on every process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

from .phi import adams, moments
from .spec import Method, Option, Run, sampler

# (sigmas, step, order) -> weights of the last `order` slopes d, newest first
Weigh = Callable[[Sequence[float], int, int], Sequence[float]]
# (run, x, x - denoised, sigma, sigma_next) -> x at sigma_next, by a one-step method
Start = Callable[[Run, Tensor, Tensor, float, float], Method]


def final(default: str) -> Option:
    """The option that says how a step to sigma 0 is taken."""
    return Option(
        "final",
        default,
        help="the step to sigma 0 takes denoised, or is one more",
        choices=("denoised", "multistep"),
    )


def integrals(sigmas: Sequence[float], step: int, order: int) -> list[float]:
    """Adams-Bashforth: the integral over the step of the polynomial through the last `order` slopes."""
    sigma, h = sigmas[step], sigmas[step + 1] - sigmas[step]
    nodes = [(sigmas[step - j] - sigma) / h for j in range(order)]
    return [h * weight for weight in adams(nodes, moments(0.0, order))]


def multistep(
    run: Run, x: Tensor, order: int, weigh: Weigh, start: Start | None = None, starts: int = 0
) -> Method:
    """x_next = x + sum_j w_j d_j over the last `order` slopes; the first steps have fewer, so a lower order.

    Args:
        start, starts: a one-step method for that many first steps instead, where they do not reach sigma 0.
    """
    past: deque[tuple[Tensor, float]] = deque(maxlen=order)
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0 and (run.final == "denoised" or run.index < starts):
            return denoised
        gap = x - denoised  # sigma d
        past.appendleft((gap, sigma))
        if start is not None and run.index < starts:
            x = yield from start(run, x, gap, sigma, sigma_next)
        else:
            x = _add(x, past, weigh(run.sigmas, run.index, len(past)))
    return x


def _add(x: Tensor, past: Sequence[tuple[Tensor, float]], weights: Sequence[float]) -> Tensor:
    (gap, sigma), *older = past
    out = x.add(gap, alpha=weights[0] / sigma)
    for (gap, sigma), weight in zip(older, weights[1:], strict=True):
        out.add_(gap, alpha=weight / sigma)
    return out


@sampler(
    "lms",
    label="LMS",
    order=4,
    family="Linear multistep",
    aliases=("k_lms", "lms_discrete"),
    paper="k-diffusion",
    options=(Option("order", 4, 1, 4, "slopes each step goes by"), final("multistep")),
)
def lms(run: Run, x: Tensor) -> Method:
    """x + the integral over sigma of the polynomial through the last slopes; step k < order has order k."""
    return multistep(run, x, run.order, integrals)
