"""The integrals that multistep methods are made of, against quadrature."""

from __future__ import annotations

import math

import pytest

from sigmagraft.samplers.phi import adams, moments, phi

integrate = pytest.importorskip("scipy.integrate")


@pytest.mark.parametrize("z", [-30.0, -1.01, -0.99, -1e-3, 0.0, 1e-9, 0.5, 4.0])
def test_moments_are_the_integrals(z: float) -> None:
    for k, value in enumerate(moments(z, 5)):
        expected, _ = integrate.quad(lambda u, k=k: math.exp(z * (1 - u)) * u**k, 0, 1, epsabs=1e-14)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_phi_at_zero_and_its_recursion() -> None:
    for k in range(6):
        assert phi(k, 0.0) == pytest.approx(1 / math.factorial(k))
        assert phi(k, 2.0) == pytest.approx(2.0 * phi(k + 1, 2.0) + 1 / math.factorial(k))


@pytest.mark.parametrize("z", [-2.0, 0.0, 1.0])
def test_weights_integrate_polynomials_exactly(z: float) -> None:
    nodes = [0.0, -0.7, -1.9, 0.5]
    weights = adams(nodes, moments(z, 4))
    cubic = lambda u: 2 - u + 3 * u**2 - 0.5 * u**3  # noqa: E731
    expected, _ = integrate.quad(lambda u: math.exp(z * (1 - u)) * cubic(u), 0, 1, epsabs=1e-14)
    assert sum(w * cubic(node) for w, node in zip(weights, nodes, strict=True)) == pytest.approx(expected)
