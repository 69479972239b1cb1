"""Fully implicit Runge-Kutta methods in sigma: a row is its nodes, the stages are found by fixed-point iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .phi import adams
from .runge_kutta import QUIET, ancestral_walk, plus
from .spec import Method, Option, Run, Walker, sampler


@dataclass(frozen=True)
class Collocation:
    """The polynomial whose slope is the ODE's at the nodes: a_ij is the integral of node j's Lagrange basis to c_i."""

    name: str
    label: str
    order: int
    nodes: tuple[float, ...]
    aliases: tuple[str, ...] = ()

    @property
    def rows(self) -> list[list[float]]:
        """a_1, ..., a_s, b."""
        ends = (*self.nodes, 1.0)
        powers = range(1, len(self.nodes) + 1)
        return [adams(self.nodes, [end**k / k for k in powers]) for end in ends]

    @property
    def evaluations(self) -> int:
        """Of a step with `order` - 1 sweeps: one at its beginning, and each sweep at all nodes but that one."""
        return 1 + (self.order - 1) * sum(node > 0.0 for node in self.nodes)


GAUSS_2, GAUSS_3, RADAU_3 = math.sqrt(3) / 6, math.sqrt(15) / 10, math.sqrt(6) / 10
COLLOCATIONS = (
    Collocation("gauss_legendre_2s", "Gauss-Legendre 4", 4, (0.5 - GAUSS_2, 0.5 + GAUSS_2)),
    Collocation("gauss_legendre_3s", "Gauss-Legendre 6", 6, (0.5 - GAUSS_3, 0.5, 0.5 + GAUSS_3)),
    Collocation("radau_iia_2s", "Radau IIA 3", 3, (1 / 3, 1.0)),
    Collocation("radau_iia_3s", "Radau IIA 5", 5, (0.4 - RADAU_3, 0.4 + RADAU_3, 1.0)),
    Collocation("lobatto_iiia_3s", "Lobatto IIIA 4", 4, (0.0, 0.5, 1.0)),
)


def collocation_step(row: Collocation, sweeps: int, x: Tensor, sigma: float, sigma_next: float) -> Method:
    """x_i = x + (sigma_next - sigma) sum_j a_ij d_j, first all d_j = d(x), then the newest, `sweeps` times.

    k sweeps have order k + 1, up to the row's. To sigma 0 the step is Euler's: x_next = denoised.
    """
    denoised = yield x, sigma
    if sigma_next == 0.0:
        return denoised
    h = sigma_next - sigma
    *inner, last = row.rows
    residuals, rates = [x - denoised] * len(inner), [h / sigma] * len(inner)
    for _ in range(sweeps):
        for i, (node, weights) in enumerate(zip(row.nodes, inner, strict=True)):
            if node > 0.0:
                at, place = plus(x, residuals, rates, weights), sigma + node * h
                residuals[i] = at - (yield at, place)
                rates[i] = h / place
    return plus(x, residuals, rates, last)


def _walker(row: Collocation) -> Walker:
    def walk(run: Run, x: Tensor) -> Method:
        return ancestral_walk(run, x, lambda *step: collocation_step(row, run.iterations, *step))

    walk.__doc__ = f"Implicit Runge-Kutta in sigma, {len(row.nodes)} stages by fixed-point iteration."
    return walk


for _row in COLLOCATIONS:
    sampler(
        _row.name,
        label=_row.label,
        order=_row.order,
        evaluations=_row.evaluations,
        family="Implicit Runge-Kutta",
        noise_option="eta",
        aliases=_row.aliases,
        paper="Hairer and Wanner 1996",
        options=(
            *QUIET,
            Option(
                "iterations",
                _row.order - 1,
                1,
                20,
                "sweeps over the stages; k of them have order k + 1 at most",
            ),
        ),
    )(_walker(_row))
