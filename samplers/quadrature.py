"""Gauss-Legendre quadrature over a step, in Python floats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

from .process import Process

POINTS = 20


@lru_cache(maxsize=8)
def gauss(count: int = POINTS) -> tuple[tuple[float, float], ...]:
    """(node, weight) on [0, 1], exact for polynomials of degree 2 count - 1: Newton's method on P_count."""
    pairs = []
    for k in range(count):
        x, slope = math.cos(math.pi * (k + 0.75) / (count + 0.5)), 1.0
        for _ in range(8):
            before, value = 1.0, x
            for n in range(2, count + 1):
                before, value = value, ((2 * n - 1) * x * value - (n - 1) * before) / n
            slope = count * (x * value - before) / (x * x - 1)
            x -= value / slope
        pairs.append(((1 - x) / 2, 1 / ((1 - x * x) * slope * slope)))
    return tuple(pairs)


def over_sigma(levels: Process, sigma: float, sigma_next: float) -> Iterator[tuple[float, float]]:
    """(s, w) with sum of w f(s) the integral of f dsigma over the step.

    The nodes are Gauss's in lambda, where what solvers integrate is smooth, d sigma / d lambda = -sigma alpha;
    from where alpha is 0 they are Gauss's in y = alpha / sigma, d sigma / d y = -sigma^2.
    """
    start, end = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
    for u, weight in gauss():
        if math.isinf(start):
            s = levels.sigma_of(end + math.log(u))
            yield s, -weight * s * s * math.exp(end)
        else:
            s = levels.sigma_of(start + u * (end - start))
            yield s, -weight * s * levels.alpha(s) * (end - start)
