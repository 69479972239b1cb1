"""Exponential Runge-Kutta: stiff order conditions, and the driver against closed forms and other implementations."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.exponential import exponential_step
from sigmagraft.samplers.exponential_tableaux import EXPONENTIAL, ExponentialRow
from sigmagraft.samplers.phi import phi
from sigmagraft.samplers.phi_sums import ExponentialTableau, consistent, p

# order on stiff problems, whatever the size of z: what the papers say of their methods, the weak form where they use it
STIFF = {
    "res_2s": 2,
    "res_3s": 3,
    "exp_heun_2_x0": 2,
    "etdrk3_3s": 2,
    "etdrk3_a_3s": 3,
    "etdrk3_b_3s": 3,
    "res_3s_lie": 3,
    "etdrk4_4s": 2,
    "res_4s_krogstad": 3,
    "res_4s_strehmel_weiner": 3,
    "res_4s_friedli": 3,
    "res_4s_minchev": 2,
    "res_5s": 4,
    "res_6s": 4,
    "res_8s": 5,
    "res_10s": 5,
    "lawson41_gen_4s": 2,
    "lawson41_gen_mod_4s": 2,
}
LAWSON = {"lawson2a_2s", "lawson2b_2s", "lawson4_4s"}
rows = pytest.mark.parametrize("row", EXPONENTIAL, ids=lambda row: row.name)


def tableau_of(row: ExponentialRow) -> ExponentialTableau:
    return row.build(*(option.default for option in row.options))


class Conditions:
    """The stiff order conditions (Hochbruck and Ostermann 2005, table 2; Luan and Ostermann 2014, table 1).

    Operators between the coefficients need not commute with them, so each coefficient is taken at a z of its own.
    """

    def __init__(self, tableau: ExponentialTableau) -> None:
        self.tableau = tableau
        self.c = (0.0, *tableau.nodes[:-1])

    def b(self, z: float) -> list[float]:
        return self.tableau.weights(z)[-1]

    def a(self, z: float, right: list[float]) -> list[float]:
        """sum_j a_ij(z) right_j."""
        return [dot(row, right) for row in [[], *self.tableau.weights(z)[:-1]]]

    def defect(self, k: int, z: float) -> list[float]:
        """psi_ki = c_i^k phi_k(c_i z) - sum_j a_ij(z) c_j^(k - 1) / (k - 1)!."""
        powers = [c ** (k - 1) / math.factorial(k - 1) for c in self.c]
        pairs = zip(self.c, self.a(z, powers), strict=True)
        return [c**k * phi(k, c * z) - value for c, value in pairs]

    def nodes(self, right: list[float], power: int = 1) -> list[float]:
        return [c**power * value for c, value in zip(self.c, right, strict=True)]

    def residuals(self, order: int, z: float) -> list[float]:
        """Those of this order, the b_i taken at z."""
        b, two, three = self.b(z), self.defect(2, -2.3), self.defect(3, -2.3)
        quadrature = phi(order, z) - dot(b, [c ** (order - 1) / math.factorial(order - 1) for c in self.c])
        inner = {
            1: [self.defect(1, -2.3)],
            2: [],
            3: [two],
            4: [three, self.a(-5.1, two), self.nodes(two)],
            5: [
                self.defect(4, -2.3),
                self.a(-5.1, three),
                self.a(-0.9, self.a(-5.1, two)),
                self.a(-5.1, self.nodes(two)),
                self.nodes(three),
                self.nodes(self.a(-5.1, two)),
                [x * y for x, y in zip(two, self.defect(2, -5.1), strict=True)],
                self.nodes(two, 2),
            ],
        }[order]
        first = inner.pop() if order == 1 else []
        return [quadrature, *first, *(dot(b, right) for right in inner)]

    def order(self) -> int:
        """All conditions below it hold at any z, its own where the b_i are taken at z = 0."""
        strong = 0
        while strong < 5 and holds(self.residuals(strong + 1, -0.7)):
            strong += 1
        return strong + (strong < 5 and holds(self.residuals(strong + 1, 0.0)))


def dot(left: list[float], right: list[float]) -> float:
    return sum(x * y for x, y in zip(left, right, strict=False))


def holds(residuals: list[float]) -> bool:
    return max(map(abs, residuals)) < 1e-12


@rows
def test_stiff_order(row: ExponentialRow) -> None:
    if row.name in LAWSON:
        assert not holds(Conditions(tableau_of(row)).residuals(1, -0.7))  # not even a constant D is exact
    else:
        assert Conditions(tableau_of(row)).order() == STIFF[row.name]


@pytest.mark.parametrize("c2", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("c3", [0.2, 2 / 3, 0.9])
def test_res_3s_is_of_order_3_at_any_nodes(c2: float, c3: float) -> None:
    row = next(row for row in EXPONENTIAL if row.name == "res_3s")
    assert Conditions(row.build(c2, c3)).order() == 3


@pytest.mark.parametrize(("c2", "c3"), [(2 / 3, 0.5), (0.5, 0.5), (2 / 3, 2 / 3)])
def test_res_3s_has_no_order_3_at_some_nodes(c2: float, c3: float) -> None:
    with pytest.raises(OptionError, match=r"no order 3 with c2=.*two different nodes"):
        drive(
            "res_3s",
            lambda x, s: x,
            torch.ones(1, 4),
            [2.0, 1.0],
            levels=NoiseLevels.discrete(),
            options={"c2": c2, "c3": c3},
        )


def start(sigma: float) -> torch.Tensor:
    return sigma * torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sigmas", [[8.0, 3.0, 0.01], [1.0, 0.7, 0.001]], ids=["ve", "flow"])
@rows
def test_a_constant_denoised_is_exact(row: ExponentialRow, sigmas: list[float]) -> None:
    levels = NoiseLevels.flow() if sigmas[0] == 1.0 else NoiseLevels.discrete()
    x = start(sigmas[0])
    end = drive(row.name, lambda x, s: torch.full_like(x, 0.3), x, sigmas, levels=levels)
    decay, gain = levels.exact(sigmas[0], sigmas[-1])
    assert torch.allclose(end, x * decay + 0.3 * gain, rtol=1e-12, atol=1e-12) is (row.name not in LAWSON)


def test_the_middle_row_is_dpmpp_2s(levels: NoiseLevels, mixture) -> None:
    """The driver against a method written out: c_2 = 1/2, all weight phi_1 on the second evaluation."""
    tableau = consistent((0.5,), {}, {2: p(1)})
    sigmas = schedule("karras", 5, levels)[1:-1]
    x = start(sigmas[0])
    expected = drive("dpmpp_2s_ancestral", mixture, x, sigmas, levels=levels, options={"eta": 0.0})
    for sigma, sigma_next in pairwise(sigmas):
        step = exponential_step(tableau, levels, x, sigma, sigma_next)
        asked = next(step)
        while True:
            try:
                asked = step.send(mixture(*asked))
            except StopIteration as stop:
                x = stop.value
                break
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


@rows
def test_the_step_from_alpha_0_is_of_full_order(make_mixture, row: ExponentialRow) -> None:
    """Rectified flow from sigma 1, where lambda is -inf; Runge-Kutta in sigma sees nothing special there."""
    levels, x = NoiseLevels.flow(), start(1.0)
    mixture = make_mixture(levels)
    errors = []
    for sigma in (0.9, 0.95):
        fine = [1 + (sigma - 1) * i / 12 for i in range(13)]
        exact = drive("dormand_prince_13s", mixture, x, fine, levels=levels)
        errors.append((drive(row.name, mixture, x, [1.0, sigma], levels=levels) - exact).norm().item())
    assert math.log2(errors[0] / errors[1]) > row.order + 0.6


def test_predict_correct_has_the_published_weights() -> None:
    """PEC423 on even steps: ABNorsett of order 3, then b_2 = phi_2 / 3 + phi_3 + phi_4 at the predicted end."""
    levels, h = NoiseLevels.discrete(), 0.6
    sigmas = [math.exp(-h * n) for n in range(4)]
    answers = iter(torch.tensor([[2.0], [7.0], [-1.0], [4.0], [3.0], [5.0]], dtype=torch.float64))
    seen: list[torch.Tensor] = []
    x = torch.ones(1, 1, dtype=torch.float64)
    end = drive(
        "pec423_2h2s",
        lambda at, sigma: (seen.append(at), next(answers)[None])[1],
        x,
        sigmas,
        levels=levels,
    )
    one, two, three, four = (phi(k, -h) for k in (1, 2, 3, 4))
    previous, before, now, after = -1.0, 2.0, 3.0, 5.0
    v1, v2, b2 = -two + three + 3 * four, two / 6 - four, two / 3 + three + four
    predicted = (one + 1.5 * two + three) * now - 2 * (two + three) * previous + (two / 2 + three) * before
    corrected = (one - v1 - v2 - b2) * now + v1 * previous + v2 * before + b2 * after
    at = seen[4] * math.exp(-h)
    torch.testing.assert_close(seen[5], at + h * predicted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, at + h * corrected, rtol=1e-12, atol=1e-12)
