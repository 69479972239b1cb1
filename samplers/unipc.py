"""UniPC: a unified predictor-corrector in half-log-SNR (arXiv:2302.04867), one evaluation a step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .exponential_multistep import Step, as_denoised, as_noise, multistep
from .exponential_steps import data_step, noise_step
from .spec import Method, Option, Run, sampler


def lower_order_final(default: str = "zero") -> Option:
    """The option that `steps_left` reads."""
    return Option(
        "lower_order_final",
        default,
        help="fewer places in the last steps: on the way to sigma 0, always or never",
        choices=("zero", "always", "never"),
    )


OPTIONS = (
    Option("order", 3, 1, 6, "evaluations the predictor goes by; the corrector takes one more"),
    Option("predict", "x0", help="what the polynomial goes through", choices=("x0", "eps")),
    Option("corrector", "on", help="correct each step by the evaluation at its end", choices=("on", "off")),
    Option("disable_corrector", 0, 0, 1000, "first steps that are not corrected"),
    lower_order_final(),
)


def steps_left(run: Run, step: int) -> int:
    """How many steps there are from this one, itself and one to sigma 0 included; a cap on its places.

    Without lower_order_final there is none, and by default none in a walk that stops above 0.
    """
    when = run.lower_order_final
    if when == "never" or (when == "zero" and run.sigmas[-1] > 0.0):
        return len(run.sigmas)
    return len(run.sigmas) - 1 - step


def unipc(run: Run, x: Tensor, rule: str) -> Method:
    """Exact for a polynomial in lambda through the places, whatever B(h) is, from 3 places.

    With two, the slope's weight is half of B(h): h (bh1) or exp(h) - 1 (bh2) of UniPC's eq. 9. So the two differ
    only in the predictor of order 2 and the corrector of order 1, both of which every walk starts with.
    """
    predicts_data = run.predict == "x0"

    def kernel(sigma: float, sigma_next: float, places: Sequence[float]) -> Step:
        step = data_step if predicts_data else noise_step
        return step(run.levels, sigma, sigma_next, places, rule=rule)

    def orders(step: int) -> tuple[int, int]:
        order = min(run.order, steps_left(run, step))
        corrects = run.corrector == "on" and step >= run.disable_corrector
        return order, order + 1 if corrects else 0

    return multistep(run, x, kernel, orders, as_denoised if predicts_data else as_noise)


DECLARED = {"order": 4, "family": "Exponential multistep", "paper": "arXiv:2302.04867", "options": OPTIONS}


@sampler("uni_pc", label="UniPC", aliases=("unipc", "unipc_multistep"), **DECLARED)
def uni_pc(run: Run, x: Tensor) -> Method:
    """UniPC with B(h) = h: order p of the predictor, p + 1 with the corrector; starts at order 1."""
    return unipc(run, x, "bh1")


@sampler("uni_pc_bh2", label="UniPC BH2", aliases=("unipc_bh2",), **DECLARED)
def uni_pc_bh2(run: Run, x: Tensor) -> Method:
    """UniPC with B(h) = exp(h) - 1: order p of the predictor, p + 1 with the corrector; starts at order 1."""
    return unipc(run, x, "bh2")
