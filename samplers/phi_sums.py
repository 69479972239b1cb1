"""What exponential Runge-Kutta methods are written in: sums of phi_k(c z), and tableaux of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .phi import adams, phi
from .tableaux import Tableau


class PhiSum(dict[tuple[int, float], float]):
    """A formal sum of w phi_k(c z), as {(k, c): w}."""

    def __add__(self, other: PhiSum) -> PhiSum:
        total = {key: self.get(key, 0.0) + other.get(key, 0.0) for key in {**self, **other}}
        return PhiSum({key: w for key, w in total.items() if abs(w) > 1e-15})

    def __rmul__(self, factor: float) -> PhiSum:
        return PhiSum({key: factor * w for key, w in self.items()})

    def __sub__(self, other: PhiSum) -> PhiSum:
        return self + -1.0 * other


def p(k: int, c: float = 1.0) -> PhiSum:
    """phi_k(c z)."""
    return PhiSum({(k, c): 1.0})


Weights = Mapping[int, PhiSum]


@dataclass(frozen=True, eq=False)
class ExponentialTableau:
    """For y' = -y + D: y_i = exp(c_i z) y + h sum_j a_ij(z) D_j, y_next = exp(z) y + h sum_j b_j(z) D_j, z = -h.

    Attributes:
        nodes: c_2 ... c_s, and the 1 of y_next.
        rows: a_2, ..., a_s, b.
    """

    nodes: tuple[float, ...]
    rows: tuple[tuple[PhiSum, ...], ...]

    @cached_property
    def _keys(self) -> set[tuple[int, float]]:
        return {key for row in self.rows for entry in row for key in entry}

    def weights(self, z: float) -> list[list[float]]:
        """The rows at z."""
        values = {(k, c): phi(k, c * z) for k, c in self._keys}
        return [[sum(w * values[key] for key, w in entry.items()) for entry in row] for row in self.rows]


def consistent(nodes: Sequence[float], inner: Mapping[int, Weights], last: Weights) -> ExponentialTableau:
    """The tableau of these weights of D_2 ... D_s and those of D_1 that make it exact while D is constant.

    That is sum_j a_ij = c_i phi_1(c_i z), sum_j b_j = phi_1(z).

    Args:
        nodes: c_2 ... c_s.
        inner, last: {i: {j: a_ij}} and {j: b_j}, counted from 1; what is left out is 0.
    """
    rows = []
    for i, c in enumerate((*nodes, 1.0), 2):
        given = last if i == len(nodes) + 2 else inner.get(i, {})
        row = [given.get(j, PhiSum()) for j in range(2, i)]
        rows.append((sum((-1.0 * weight for weight in row), c * p(1, c)), *row))
    return ExponentialTableau((*nodes, 1.0), tuple(rows))


def interpolating(nodes: Sequence[float], supports: Mapping[int, Sequence[int]]) -> ExponentialTableau:
    """Stage i integrates the polynomial through D_1 and the D_j with j in supports[i]; stage s + 1 is y_next."""
    c = (0.0, *nodes, 1.0)
    inner = {i: _integrated(c[i - 1], {j: c[j - 1] for j in support}) for i, support in supports.items()}
    return consistent(nodes, inner, inner[len(nodes) + 2])


def _integrated(end: float, nodes: Mapping[int, float]) -> dict[int, PhiSum]:
    """The weights of D at `nodes` when the polynomial through them and D at 0 is integrated up to `end`."""
    weights = dict.fromkeys(nodes, PhiSum())
    for k in range(len(nodes) + 1):
        power = math.factorial(k) * end ** (k + 1) * p(k + 1, end)  # the integral of u^k
        shares = adams((0.0, *nodes.values()), [float(k == n) for n in range(len(nodes) + 1)])
        weights = {j: weights[j] + share * power for j, share in zip(nodes, shares[1:], strict=True)}
    return weights


def lawson(weights: str) -> ExponentialTableau:
    """A classical tableau applied to exp(-z t) y: weights a_ij exp((c_i - c_j) z) and b_j exp((1 - c_j) z)."""
    stages = Tableau("", "", 0, weights).stages
    nodes = tuple(c for c, _ in stages)
    rows = (tuple(w * p(0, c - at) for w, at in zip(row, (0.0, *nodes), strict=False)) for c, row in stages)
    return ExponentialTableau(nodes, tuple(rows))
