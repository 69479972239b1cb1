"""The driver of exponential multistep methods: x_next = decay x + sum_j w_j f_j + std noise, f_j past evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor

from .phi import combine
from .process import Process
from .spec import Method, Run


class Step(NamedTuple):
    """decay of x, a weight for each place, std of the noise."""

    decay: float
    weights: list[float]
    std: float = 0.0


# (sigma, sigma_next, places): the step with the integral over the polynomial through f at the levels `places`
Kernel = Callable[[float, float, Sequence[float]], Step]
# index of a step -> places of its predictor, and of its corrector: the new one included, 0 for none
Orders = Callable[[int], tuple[int, int]]
# (levels, x, denoised, sigma) -> f
Form = Callable[[Process, Tensor, Tensor, float], Tensor]


def as_denoised(levels: Process, x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """f = denoised: data prediction."""
    return denoised


def as_noise(levels: Process, x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """f = (x - alpha denoised) / sigma: noise prediction; denoised where alpha is 0 (`noise_step` knows)."""
    alpha = levels.alpha(sigma)
    return x.sub(denoised, alpha=alpha).div_(sigma) if alpha else denoised


class Before(NamedTuple):
    """A step that was predicted from `sigma` with these weights, and how many places its corrector wants."""

    sigma: float
    weights: list[float]
    corrector: int

    def owed(self, kernel: Kernel, places: Sequence[float]) -> list[float]:
        """Corrector minus predictor, a weight for each of `places`, the first of which is where the step ended."""
        if not self.corrector:
            return []
        better = kernel(self.sigma, places[0], places[: self.corrector]).weights
        return _sum(better, -1.0, [0.0, *self.weights])


NOTHING = Before(0.0, [], 0)


def multistep(
    run: Run,
    x: Tensor,
    kernel: Kernel,
    orders: Orders,
    form: Form = as_denoised,
    s_noise: float = 1.0,
    again: bool = False,
) -> Method:
    """Predict each step from the places there are; correct it when the evaluation at its end is there.

    PEC: that evaluation is the next step's first, and what it changes is added to x along with the next step, so
    an edit of x between steps is kept. `again` is PECE: an evaluation of its own, at once. The noise of a step
    is drawn once. The first steps have fewer places, so a lower order; one to sigma 0 gives denoised.
    """
    places: list[float] = []
    values: list[Tensor] = []
    before = NOTHING
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        places.insert(0, sigma)
        values.insert(0, form(run.levels, x, denoised, sigma))
        predictor, corrector = orders(run.index)
        step = kernel(sigma, sigma_next, places[:predictor])
        x = _add(x, step.decay, values, _sum(step.weights, step.decay, before.owed(kernel, places)))
        x = run.add_noise(x, 1.0, step.std * s_noise, sigma, sigma_next)
        before = Before(sigma, step.weights, corrector)
        if again and corrector:
            denoised = yield x, sigma_next
            trial = form(run.levels, x, denoised, sigma_next)
            x = _add(x, 1.0, [trial, *values], before.owed(kernel, [sigma_next, *places]))
            before = NOTHING
        keep = max(predictor, corrector - 1)
        del places[keep:], values[keep:]
    return x


def _sum(first: Sequence[float], factor: float, second: Sequence[float]) -> list[float]:
    """first + factor second, the shorter one padded with zeros."""
    return [a + factor * b for a, b in zip_longest(first, second, fillvalue=0.0)]


def _add(x: Tensor, decay: float, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return combine(x, decay, values[: len(weights)], weights)
