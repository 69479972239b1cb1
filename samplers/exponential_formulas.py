"""The formulas of exponential Runge-Kutta methods, as their papers give them; p(k, c) is phi_k(c z)."""

from __future__ import annotations

from ..core.errors import OptionError
from .phi_sums import ExponentialTableau, PhiSum, consistent, interpolating, p

NONE = PhiSum()
SIMPSON = {2: 2 * p(2) - 4 * p(3), 3: 2 * p(2) - 4 * p(3), 4: 4 * p(3) - p(2)}  # nodes 1/2, 1/2 and 1
SIMPSON_ONCE = {3: 4 * p(2) - 8 * p(3), 4: 4 * p(3) - p(2)}
ONE = p(0, 0.0)


def res_2s(c2: float) -> ExponentialTableau:
    return consistent((c2,), {}, {2: 1 / c2 * p(2)})


def res_3s(c2: float, c3: float) -> ExponentialTableau:
    """b_2 = gamma b_3, where 2 (gamma c_2 + c_3) = 3 (gamma c_2^2 + c_3^2)."""
    fall, rise = c2 * (2 - 3 * c2), c3 * (3 * c3 - 2)
    if abs(fall) < 1e-6 or abs(rise / fall * c2 + c3) < 1e-6:
        what, expected = f"no order 3 with c2={c2:g} and c3={c3:g}", "two different nodes, c2 other than 2/3"
        raise OptionError(what, "sampler res_3s", expected)
    gamma = rise / fall
    b3 = 1 / (gamma * c2 + c3) * p(2)
    a32 = gamma * c2 * p(2, c2) + c3**2 / c2 * p(2, c3)
    return consistent((c2, c3), {3: {2: a32}}, {2: gamma * b3, 3: b3})


def heun(solver_type: str) -> ExponentialTableau:
    return consistent((1.0,), {}, {2: 1 / 2 * p(1) if solver_type == "phi_1" else p(2)})


def etdrk3() -> ExponentialTableau:
    return consistent((1 / 2, 1.0), {3: {2: 2 * p(1)}}, {2: 4 * p(2) - 8 * p(3), 3: 4 * p(3) - p(2)})


def etdrk3_a() -> ExponentialTableau:
    last = {2: p(2) - 1 / 2 * p(1), 3: 3 / 4 * p(1)}
    return consistent((1.0, 2 / 3), {3: {2: 4 / 9 * p(2, 2 / 3)}}, last)


def etd2cf3() -> ExponentialTableau:
    last = {2: 6 * p(2) - 18 * p(3), 3: 9 * p(3) - 3 / 2 * p(2)}
    return consistent((1 / 3, 2 / 3), {3: {2: 4 / 3 * p(2, 2 / 3)}}, last)


def etdrk4() -> ExponentialTableau:
    return _four(1 / 2 * p(1, 0.5), NONE, p(1, 0.5), SIMPSON)


def krogstad() -> ExponentialTableau:
    return _four(p(2, 0.5), NONE, 2 * p(2), SIMPSON)


def strehmel_weiner() -> ExponentialTableau:
    return _four(1 / 2 * p(2, 0.5), -2 * p(2), 4 * p(2), SIMPSON_ONCE)


def friedli() -> ExponentialTableau:
    a42, a43 = 2 / 25 * p(2) - 26 / 25 * p(1), 26 / 25 * p(1) + 48 / 25 * p(2)
    return _four(1 / 2 * p(2, 0.5), a42, a43, SIMPSON_ONCE)


def minchev() -> ExponentialTableau:
    a32 = 2 / 25 * p(1, 0.5) + 6 / 25 * p(2, 0.5)
    a42 = 21 / 5 * p(2) - 108 / 5 * p(3)
    a43 = 1 / 20 * p(1) - 33 / 10 * p(2) + 123 / 5 * p(3)
    last = {
        2: 1 / 5 * p(2) - 1 / 10 * p(1) - 4 * p(3) + 12 * p(4),
        3: 1 / 30 * p(1) + 23 / 5 * p(2) - 8 * p(3) - 4 * p(4),
        4: 1 / 30 * p(1) - 7 / 5 * p(2) + 6 * p(3) - 4 * p(4),
    }
    return _four(a32, a42, a43, last)


def generalised_lawson(modified: bool) -> ExponentialTableau:
    """Lawson's weights but that of D_1, which makes a constant D exact; `modified` also a D linear in lambda."""
    third = 1 / 3 * p(0, 0.5)
    last = {2: third, 3: third, 4: p(2) - third if modified else 1 / 6 * ONE}
    return _four(1 / 2 * ONE, NONE, p(0, 0.5), last)


def _four(a32: PhiSum, a42: PhiSum, a43: PhiSum, last: dict[int, PhiSum]) -> ExponentialTableau:
    return consistent((1 / 2, 1 / 2, 1.0), {3: {2: a32}, 4: {2: a42, 3: a43}}, last)


def hochbruck_ostermann() -> ExponentialTableau:
    a52 = 1 / 2 * p(2, 0.5) - p(3) + 1 / 4 * p(2) - 1 / 2 * p(3, 0.5)
    inner = {3: {2: p(2, 0.5)}, 4: {2: p(2), 3: p(2)}, 5: {2: a52, 3: a52, 4: 1 / 4 * p(2, 0.5) - a52}}
    return consistent((1 / 2, 1 / 2, 1.0, 1 / 2), inner, {4: 4 * p(3) - p(2), 5: 4 * p(2) - 8 * p(3)})


def luan_4() -> ExponentialTableau:
    nodes = (1 / 2, 1 / 2, 1 / 3, 1 / 3, 5 / 6)
    return interpolating(nodes, {3: (2,), 4: (2,), 5: (3, 4), 6: (3, 4), 7: (5, 6)})


def luan_5() -> ExponentialTableau:
    nodes = (1 / 2, 1 / 2, 1 / 3, 1 / 2, 1 / 3, 1 / 4, 3 / 10, 3 / 4, 1.0)
    supports = dict.fromkeys((3, 4), (2,)) | dict.fromkeys((5, 6, 7), (3, 4))
    return interpolating(nodes, supports | dict.fromkeys((8, 9, 10), (5, 6, 7)) | {11: (8, 9, 10)})


def luan_ostermann() -> ExponentialTableau:
    c6, c7 = 1 / 5, 2 / 3
    a64 = 8 / 25 * p(2, c6) - 32 / 125 * p(3, c6)
    shared = 5 / 32 * a64 - 1 / 28 * p(2, c6) + 36 / 175 * p(2, c7) - 48 / 25 * p(3, c7)
    shared = shared + 6 / 175 * p(4, c6) + 192 / 35 * p(4, c7) + 6 * p(4)
    inner = {
        3: {2: 1 / 2 * p(2, 0.5)},
        4: {3: 1 / 8 * p(2, 0.25)},
        5: {3: 2 * p(3, 0.5) - 1 / 2 * p(2, 0.5), 4: 2 * p(2, 0.5) - 4 * p(3, 0.5)},
        6: {4: a64, 5: 2 / 25 * p(2, c6) - 1 / 2 * a64},
        7: {
            4: -125 / 162 * a64,
            5: 125 / 1944 * a64 - 16 / 27 * p(2, c7) + 320 / 81 * p(3, c7),
            6: 3125 / 3888 * a64 + 100 / 27 * p(2, c7) - 800 / 81 * p(3, c7),
        },
        8: {
            5: 208 / 3 * p(3) - 16 / 3 * p(2) - 40 * shared,
            6: 250 / 21 * p(2) - 250 / 3 * p(3) + 250 / 7 * shared,
            7: 27 / 14 * p(2) - 27 * p(3) + 135 / 7 * shared,
        },
    }
    last = {
        6: 125 / 14 * p(2) - 625 / 14 * p(3) + 1125 / 14 * p(4),
        7: 162 / 7 * p(3) - 27 / 14 * p(2) - 405 / 7 * p(4),
        8: 1 / 2 * p(2) - 13 / 2 * p(3) + 45 / 2 * p(4),
    }
    return consistent((1 / 2, 1 / 2, 1 / 4, 1 / 2, c6, c7, 1.0), inner, last)
