"""Every row of the table satisfies the order conditions of every rooted tree, and converges at that order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement

import pytest
import torch

from sigmagraft.samplers import SAMPLERS, drive
from sigmagraft.samplers.collocation import COLLOCATIONS, Collocation
from sigmagraft.samplers.exponential_tableaux import EXPONENTIAL, ExponentialRow
from sigmagraft.samplers.tableaux import TABLEAUX, Tableau

Tree = tuple  # the sorted subtrees of the root; () is the tree of one node


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """The rooted trees of this many nodes."""
    return tuple(tuple(sorted(forest)) for forest in forests(order - 1, order - 1))


@cache
def forests(nodes: int, largest: int) -> tuple[tuple[Tree, ...], ...]:
    """The multisets of trees with this many nodes together, none larger than `largest`."""
    if nodes == 0:
        return ((),)
    found: list[tuple[Tree, ...]] = []
    for size in range(1, min(nodes, largest) + 1):
        for count in range(1, nodes // size + 1):
            rest = forests(nodes - size * count, size - 1)
            found += [
                (*chosen, *others)
                for chosen in combinations_with_replacement(trees(size), count)
                for others in rest
            ]
    return tuple(found)


def size(tree: Tree) -> int:
    return 1 + sum(map(size, tree))


def density(tree: Tree) -> int:
    """gamma: the nodes of the tree times the gammas of its subtrees; the exact solution's weight is 1 / gamma."""
    return size(tree) * math.prod(map(density, tree))


def residual(tree: Tree, a: Sequence[Sequence], b: Sequence) -> Fraction | float:
    """sum_i b_i Phi_i(tree) - 1 / gamma(tree), Phi_i = the product over the subtrees of sum_j a_ij Phi_j."""

    @cache
    def elementary(tree: Tree, i: int):
        parts = (sum(w * elementary(sub, j) for j, w in enumerate(a[i]) if w) for sub in tree)
        return math.prod(parts, start=Fraction(1))

    return sum(w * elementary(tree, i) for i, w in enumerate(b)) - Fraction(1, density(tree))


def worst(order: int, a: Sequence[Sequence], b: Sequence) -> float:
    """The largest residual over the trees of this order."""
    return max(abs(residual(tree, a, b)) for tree in trees(order))


def test_the_trees_are_all_there() -> None:
    counts = [len(set(trees(order))) for order in range(1, 10)]
    assert counts == [1, 1, 2, 4, 9, 20, 48, 115, 286]
    assert all(size(tree) == 6 for tree in trees(6))


@pytest.mark.parametrize("row", TABLEAUX, ids=lambda row: row.name)
def test_order_conditions_hold_to_the_order_and_no_further(row: Tableau) -> None:
    *a, b = ((), *row.rows)
    for order in range(1, row.order + 1):
        assert worst(order, a, b) <= (2e-14 if row.approximate else 0), order
    assert worst(row.order + 1, a, b) > 1e-6


@pytest.mark.parametrize("row", EXPONENTIAL, ids=lambda row: row.name)
def test_an_exponential_row_is_classical_in_short_steps(row: ExponentialRow) -> None:
    """At z = 0 its weights are those of a classical method of its order."""
    *a, b = ([], *row.build(*(option.default for option in row.options)).weights(0.0))
    for order in range(1, row.order + 1):
        assert worst(order, a, b) <= 1e-12, order
    assert worst(row.order + 1, a, b) > 1e-6


@pytest.mark.parametrize("row", COLLOCATIONS, ids=lambda row: row.name)
def test_an_implicit_row_has_its_order_solved_and_swept(row: Collocation, mixture, levels) -> None:
    """The order conditions of the solved stages; with more sweeps than the order asks for, little changes."""
    *a, b = row.rows
    for order in range(1, row.order + 1):
        assert worst(order, a, b) <= 1e-14, order
    assert worst(row.order + 1, a, b) > 1e-6
    x = torch.ones(2, 6, dtype=torch.float64)
    solved, swept, early = (
        drive(row.name, mixture, x, [0.8, 0.75, 0.7], levels=levels, options={"iterations": count})
        for count in (20, row.order - 1, 1)
    )
    assert (swept - solved).norm() < 0.01 * (early - solved).norm()


def test_gauss_legendre_is_the_published_tableau() -> None:
    third = math.sqrt(3) / 6
    first, second, last = next(row.rows for row in COLLOCATIONS if row.name == "gauss_legendre_2s")
    assert [*first, *second] == pytest.approx([1 / 4, 1 / 4 - third, 1 / 4 + third, 1 / 4])
    assert last == pytest.approx([1 / 2, 1 / 2])


def one_step(row: Tableau, x: torch.Tensor, sigma: float, sigma_next: float, denoise) -> torch.Tensor:
    """The textbook's way: k_i = f(t + c_i h, x + h sum_j a_ij k_j), x + h sum_j b_j k_j."""
    h = sigma_next - sigma
    *inner, b = row.rows
    slopes: list[torch.Tensor] = []
    for weights in ((), *inner):
        at = x + h * sum(float(w) * k for w, k in zip(weights, slopes, strict=True))
        place = sigma + float(sum(weights)) * h
        slopes.append((at - denoise(at, place)) / place)
    return x + h * sum(float(w) * k for w, k in zip(b, slopes, strict=True))


@pytest.mark.parametrize("row", TABLEAUX, ids=lambda row: row.name)
def test_a_walk_is_the_textbooks_steps_and_denoised_at_the_end(row: Tableau, levels, mixture) -> None:
    asked: list[tuple[float, torch.Tensor]] = []

    def watched(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append((sigma, mixture(x, sigma)))
        return asked[-1][1]

    sigmas = [0.9, 0.5, 0.2, 0.0]
    start = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    end = drive(row.name, watched, start, sigmas, levels=levels)
    x = one_step(row, one_step(row, start, 0.9, 0.5, mixture), 0.5, 0.2, mixture)
    torch.testing.assert_close(end, mixture(x, 0.2), rtol=1e-12, atol=1e-12)
    assert torch.equal(end, asked[-1][1])
    assert len(asked) == 2 * SAMPLERS[row.name].evaluations + 1
