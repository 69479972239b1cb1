"""The quantile function of the beta distribution, in plain floats."""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300  # what a vanishing denominator of the continued fraction is replaced by
_FRACTIONS = 10_000  # it converges in O(sqrt(max(a, b))) terms
_ROUNDS = 200  # halving alone needs about 60, for a quantile near 0 up to 1,100 / log2(1e4)


@lru_cache(8192)
def beta_quantile(p: float, a: float, b: float) -> float:
    """x in [0, 1] with I_x(a, b) = p, the regularised incomplete beta function; a, b > 0.

    Newton's steps on I, kept inside a shrinking bracket. Good to 1e-12 for p from 1e-4 to 1 - 1e-4.
    """
    if p <= 0.0 or p >= 1.0:
        return float(p >= 1.0)
    if p > incomplete_beta(0.5, a, b):  # floats near 0 are finer than those near 1
        return 1 - _below_half(1 - p, b, a)
    return _below_half(p, a, b)


def _below_half(p: float, a: float, b: float) -> float:
    low, high, log_beta = 0.0, 0.5, math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    # the quantile where x is small: I is then x^a / (a B(a, b))
    x = min(math.exp((math.log(p * a) + log_beta) / a), 0.5)
    for _ in range(_ROUNDS):
        if not low < x < high:
            # far apart, half way in the exponent
            x = math.sqrt(low * high) if 0.0 < low < high * 1e-4 else (low + high) / 2
        miss = incomplete_beta(x, a, b) - p
        low, high = (x, high) if miss < 0 else (low, x)
        slope = math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta)
        step = miss / slope if slope > 0.0 else math.inf  # 0 by underflow
        if abs(step) <= 4e-16 * x or high - low <= 1e-16 * high:
            break
        x -= step
    return min(max(x, low), high)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), x in [0, 1]: by its continued fraction (DLMF 8.17.22), on the side where that converges."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _lower(1 - x, b, a)
    return _lower(x, a, b)


def _lower(x: float, a: float, b: float) -> float:
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
    return front / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d_1 / (1 + d_2 / (1 + ...)) by Lentz's method; d_k as in DLMF 8.17.23."""
    value = ratio = 1.0
    inverse = 0.0
    for k in range(1, _FRACTIONS):
        m = k // 2
        if k % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        inverse = 1 / _off_zero(1 + d * inverse)
        ratio = _off_zero(1 + d / ratio)
        value *= ratio * inverse
        if abs(ratio * inverse - 1) < 1e-16:
            break
    return value


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
