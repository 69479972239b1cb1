"""The integrals of exponential and linear multistep methods, in Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor


@lru_cache(maxsize=4096)
def phi(k: int, z: float) -> float:
    """phi_0 = exp(z), phi_k(z) = (phi_{k-1}(z) - 1 / (k-1)!) / z; phi_k(0) = 1 / k! (Hochbruck and Ostermann 2010)."""
    if k == 0:
        return math.exp(z)
    if abs(z) < 1.0:  # the recursion would lose digits
        return sum(z**i / math.factorial(i + k) for i in range(24))
    if k == 1:
        return math.expm1(z) / z
    return (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def moments(z: float, count: int) -> list[float]:
    """Integral over u in [0, 1] of exp(z (1 - u)) u^k, k = 0 ... count - 1: k! phi_{k+1}(z)."""
    return [math.factorial(k) * phi(k + 1, z) for k in range(count)]


def adams(nodes: Sequence[float], integrals: Sequence[float]) -> list[float]:
    """Weights w: sum_j w_j f(nodes_j) is the integral of the polynomial through the f(nodes_j).

    Args:
        nodes: distinct places, in the unit of the step: 0 where it begins, 1 where it ends, history below 0.
        integrals: of u^k over the step, one for each node (`moments`).
    """
    weights = []
    for j, node in enumerate(nodes):
        basis = [1.0]  # coefficients of the Lagrange polynomial of this node, ascending
        for m, other in enumerate(nodes):
            if m != j:
                away = node - other
                basis = [(a - other * b) / away for a, b in zip([0.0, *basis], [*basis, 0.0], strict=True)]
        weights.append(sum(c * integral for c, integral in zip(basis, integrals, strict=True)))
    return weights


def combine(x: Tensor, scale: float, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """scale * x + sum_j weights_j tensors_j, in a new tensor; terms of weight 0 are skipped."""
    out = x * scale
    for tensor, weight in zip(tensors, weights, strict=True):
        if weight != 0.0:
            out.add_(tensor, alpha=weight)
    return out
