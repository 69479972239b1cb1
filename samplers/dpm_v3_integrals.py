"""The integrals of DPM-Solver-v3 over a step in lambda, for each channel or place of its statistics.

By the primitives L of l and S of s, both 0 where the step begins, B = exp(-S) b's primitive and E = exp(L + S).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .model_statistics import ModelStatistics
from .quadrature import gauss


class Span(NamedTuple):
    """From one lambda to another, float64 [...] each: the primitives L, S and B at its end, and its moments.

    `moments` are the integrals of E u^k dlambda, u from 0 to 1 along the step, and `drift` is that of E B dlambda.
    """

    L: Tensor
    S: Tensor
    B: Tensor
    moments: list[Tensor]
    drift: Tensor


def span(statistics: ModelStatistics, first: float, last: float, count: int = 0) -> Span:
    """The span from lambda `first` to `last`, which may lie behind, with `count` moments."""
    nodes, weights, inner = _rule()
    h = last - first
    l, s, b = statistics.at(first + h * nodes)  # noqa: E741
    fall = torch.exp(-_apply(inner, s) * h)
    grow = torch.exp(_apply(inner, l) * h) / fall
    behind = _apply(inner, fall * b) * h
    moments = [_over(weights * nodes**k, grow) * h for k in range(count)]
    return Span(
        _over(weights, l) * h,
        _over(weights, s) * h,
        _over(weights, fall * b) * h,
        moments,
        _over(weights, grow * behind) * h,
    )


def newton_weights(nodes: Sequence[float], moments: Sequence[Tensor], pseudo: bool) -> list[Tensor]:
    """w with sum of w_j g(nodes_j) the integral of the polynomial through g; the first node is 0, the step's start.

    Newton's form, c_k the divided difference of the first k + 1 nodes: g = sum of c_k u (u - u_1) ... (u - u_k-1).
    `pseudo` takes c_k for the k-th Taylor coefficient, g = sum of c_k u^k: order 2, but less noise at long steps.
    """
    weights = [torch.zeros_like(moments[0]) for _ in nodes]
    basis = [1.0]
    for k in range(len(nodes)):
        term = moments[k] if pseudo else sum(c * moment for c, moment in zip(basis, moments, strict=False))
        for j, share in enumerate(_divided(nodes[: k + 1])):
            weights[j] = weights[j] + share * term
        basis = [a - nodes[k] * b for a, b in zip([0.0, *basis], [*basis, 0.0], strict=True)]
    return weights


def _divided(nodes: Sequence[float]) -> list[float]:
    """The weights of a divided difference: 1 / prod_m (node - node_m)."""
    shares = []
    for j, node in enumerate(nodes):
        product = 1.0
        for m, other in enumerate(nodes):
            product *= node - other if m != j else 1.0
        shares.append(1 / product)
    return shares


def _apply(matrix: Tensor, values: Tensor) -> Tensor:
    return torch.einsum("ij,j...->i...", matrix, values)


def _over(weights: Tensor, values: Tensor) -> Tensor:
    return torch.einsum("j,j...->...", weights, values)


@lru_cache(maxsize=1)
def _rule() -> tuple[Tensor, Tensor, Tensor]:
    """Gauss's nodes and weights on [0, 1] and the matrix of integrals from 0 to each node.

    P_k's primitive is (P_k+1 - P_k-1) / (2 k + 1); at Gauss's nodes f's coefficient of P_k is
    (2 k + 1) times the weighted sum of P_k f.
    """
    pairs = torch.tensor(gauss(), dtype=torch.float64)
    nodes, weights = pairs[:, 0], pairs[:, 1]
    y, count = 2 * nodes - 1, len(nodes)
    rows = [torch.ones_like(y), y]
    for k in range(1, count):
        rows.append(((2 * k + 1) * y * rows[k] - k * rows[k - 1]) / (k + 1))
    primitives = [nodes, *((rows[k + 1] - rows[k - 1]) / (4 * k + 2) for k in range(1, count))]
    inner = sum(
        (2 * k + 1) * torch.outer(primitive, rows[k] * weights) for k, primitive in enumerate(primitives)
    )
    assert isinstance(inner, Tensor)
    return nodes, weights, inner
