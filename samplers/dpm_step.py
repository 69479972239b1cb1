"""The step that all DPM-Solvers share: in half-log-SNR, of the data or the noise prediction, ODE or SDE.

h is the step in lambda, f(u) the prediction at the fraction u of it, eta the share of noise:

data   x_next = sigma_next / sigma e^(-eta h) x + alpha_next (1 + eta) h int e^(-(1 + eta) h (1 - u)) f du
                + sigma_next sqrt(1 - e^(-2 eta h)) noise                    (DPM-Solver++, arXiv:2211.01095)
noise  x_next = alpha_next / alpha x - sigma_next (1 + eta) h int e^(h (1 - u)) f du
                + sigma_next sqrt(eta (e^(2 h) - 1)) noise                   (DPM-Solver, arXiv:2206.00927)

A method is which predictions f is drawn through, and the rule that integrates 1, u and u^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .phi import adams, combine, moments
from .process import Process

FAMILY = "DPM-Solver"
PLUS, PLAIN = "arXiv:2211.01095", "arXiv:2206.00927"
# exact integrals of u^k over the step -> those the method goes by
Rule = Callable[[list[float]], list[float]]


def exact(integrals: list[float]) -> list[float]:
    """The integrals as they are; with two predictions, "heun" in the names of solvers."""
    return integrals


def midpoint(integrals: list[float]) -> list[float]:
    """Half the step's weight for the integral of u: exact to the same order, with two predictions only."""
    return [integrals[0], integrals[0] / 2]


def halved(integrals: list[float]) -> list[float]:
    """Half the integral of u^2, as all published multistep formulas have it: an order is lost."""
    return [*integrals[:2], integrals[2] / 2]


class Known(NamedTuple):
    """A prediction, scale * tensor, at half-log-SNR `place`."""

    tensor: Tensor
    scale: float
    place: float


@dataclass(frozen=True)
class Solver:
    """Steps of one kind: of `noise` or data prediction, with the SDE's share of noise `eta`."""

    levels: Process
    eta: float = 0.0
    noise: bool = False

    def starting(self, sigma: float) -> Solver:
        """Itself; of data where alpha is 0, since the noise is then all of x and says nothing."""
        return replace(self, noise=False) if self.levels.alpha(sigma) == 0.0 else self

    def known(self, x: Tensor, denoised: Tensor, sigma: float) -> Known:
        """What the evaluation of x at sigma says."""
        place = self.levels.half_log_snr(sigma)
        if not self.noise:
            return Known(denoised, 1.0, place)
        return Known(torch.sub(x, denoised, alpha=self.levels.alpha(sigma)), 1 / sigma, place)

    def advance(
        self, x: Tensor, sigma: float, sigma_next: float, known: Sequence[Known], rule: Rule = exact
    ) -> tuple[Tensor, float]:
        """(x at sigma_next without its noise, std of that noise); f is the polynomial through `known`.

        The first of `known` is at sigma. From alpha 0, where h is infinite, f is a polynomial in
        exp(lambda) instead; with eta it is the first of `known`, to first order.
        """
        decay, unit, z, std = self._terms(sigma, sigma_next)
        if self.eta and math.isinf(known[0].place):
            known, rule = known[:1], exact
        weights = adams(self._nodes(sigma, sigma_next, known), rule(moments(z, len(known))))
        scaled = [unit * weight * one.scale for weight, one in zip(weights, known, strict=True)]
        return combine(x, decay, [one.tensor for one in known], scaled), std

    def _terms(self, sigma: float, sigma_next: float) -> tuple[float, float, float, float]:
        """(decay, unit, z, std): x_next = decay x + unit int exp(z (1 - u)) f du + std noise."""
        levels = self.levels
        h = levels.half_log_snr(sigma_next) - levels.half_log_snr(sigma)
        alpha = levels.alpha(sigma_next)
        if self.noise:
            unit, std = -(1 + self.eta) * sigma_next * h, sigma_next * math.sqrt(self.eta * math.expm1(2 * h))
            return alpha / levels.alpha(sigma), unit, h, std
        decay, _, std = levels.sde(sigma, sigma_next, self.eta)
        if math.isinf(h):
            return decay, alpha, 0.0, std
        return decay, alpha * (1 + self.eta) * h, -(1 + self.eta) * h, std

    def _nodes(self, sigma: float, sigma_next: float, known: Sequence[Known]) -> list[float]:
        first, last = self.levels.half_log_snr(sigma), self.levels.half_log_snr(sigma_next)
        if math.isinf(first):
            return [math.exp(one.place - last) for one in known]
        return [(one.place - first) / (last - first) for one in known]
