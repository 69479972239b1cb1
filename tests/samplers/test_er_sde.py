"""ER-SDE against the equations of its paper, integrated numerically."""

from __future__ import annotations

import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.er_sde import DERIVATIVES, er_step

integrate = pytest.importorskip("scipy.integrate")
PLACES = [0.6, 0.72, 0.85]
# phi and phi' / phi of the paper's choice
PHI = lambda r: r * (math.exp(r**0.3) + 10)  # noqa: E731
RATE = lambda r: 1 / r + 0.3 * r**-0.7 * math.exp(r**0.3) / (math.exp(r**0.3) + 10)  # noqa: E731


@pytest.mark.parametrize("count", [1, 2, 3])
def test_mean_and_noise_of_the_papers_sde(levels: NoiseLevels, count: int) -> None:
    """z = x / alpha has mean dz / drho = phi' / phi (z - D); its variance follows from that of the marginals."""

    def curve(r: float) -> float:
        return sum((0.4, -2.0, 0.7)[n] * r**n for n in range(count))

    step = er_step(levels, 0.6, 0.35, PLACES[:count], "ER-SDE", 1.0)
    rho = {s: s / levels.alpha(s) for s in (0.35, *PLACES)}
    solved = integrate.solve_ivp(
        lambda r, z: RATE(r) * (z - curve(r)),
        (rho[0.6], rho[0.35]),
        [1.3],
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    )
    x = 1.3 * levels.alpha(0.6)
    got = step.decay * x + sum(w * curve(rho[at]) for w, at in zip(step.weights, PLACES[:count], strict=True))
    assert got == pytest.approx(levels.alpha(0.35) * solved.y[0, -1], rel=1e-9)
    share = PHI(rho[0.35]) / PHI(rho[0.6])
    expected = levels.alpha(0.35) * math.sqrt(rho[0.35] ** 2 - (rho[0.6] * share) ** 2)
    assert step.std == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_reverse_time_sde_is_the_diffusion_sde(levels: NoiseLevels, eta: float) -> None:
    decay, gain, std = levels.sde(0.6, 0.35, eta)
    step = er_step(levels, 0.6, 0.35, [0.6], "Reverse-time SDE", eta)
    assert (step.decay, step.weights[0], step.std) == pytest.approx((decay, gain, std), abs=1e-12)


def test_first_level_of_a_flow() -> None:
    """No signal: all of the noise is new, or with eta 0 none of it."""
    flow = NoiseLevels.flow()
    for eta, decay, std in ((1.0, 0.0, 0.9), (0.0, 0.9, 0.0)):
        step = er_step(flow, 1.0, 0.9, [1.0], "ER-SDE", eta)
        assert (step.decay, step.weights[0], step.std) == pytest.approx((decay, 0.1, std), abs=1e-12)


def quadrature(f, low: float, high: float) -> float:
    return integrate.quad(f, low, high)[0]


def two_hundred_points(f, low: float, high: float) -> float:
    """As ComfyUI's er_sde has it: even points, the upper end left out."""
    step = (high - low) / 200
    return sum(f(low + k * step) for k in range(200)) * step


@pytest.mark.parametrize(("rule", "integral"), [("paper", quadrature), ("hosts", two_hundred_points)])
def test_derivatives_of_the_paper(levels: NoiseLevels, rule: str, integral) -> None:
    """D' = (D_0 - D_1) / (r_0 - r_1), D'' = (D' - D'_before) / ((r_0 - r_2) / 2), with its two integrals."""
    step = er_step(levels, 0.6, 0.35, PLACES, "ER-SDE", 1.0, *DERIVATIVES[rule])
    r, (a, b, c) = 0.35 / levels.alpha(0.35), (s / levels.alpha(s) for s in PLACES)
    s = integral(lambda u: 1 / PHI(u), r, a)
    s_u = integral(lambda u: (u - a) / PHI(u), r, a)
    values = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    first, before = (values[0] - values[1]) / (a - b), (values[1] - values[2]) / (b - c)
    expected = (
        (1 - PHI(r) / PHI(a)) * values[0]
        + (r - a + s * PHI(r)) * first
        + ((r - a) ** 2 / 2 + s_u * PHI(r)) * (first - before) / ((a - c) / 2)
    )
    got = (torch.tensor(step.weights, dtype=torch.float64) * values).sum()
    assert got.item() == pytest.approx(levels.alpha(0.35) * expected.item(), rel=1e-8)


def test_solver_types(levels: NoiseLevels, mixture) -> None:
    """eta 0 is the ODE, whatever the type; above it the types differ."""
    sigmas = schedule("karras", 8, levels)
    x = torch.full((1, 6), sigmas[0], dtype=torch.float64)

    def end(kind: str, eta: float) -> torch.Tensor:
        options = {"solver_type": kind, "eta": eta}
        return drive(
            "er_sde", mixture, x, sigmas, levels=levels, noise=lambda a, b: x * 0 + 0.5, options=options
        )

    kinds = ("ER-SDE", "Reverse-time SDE", "ODE")
    quiet, loud = [end(kind, 0.0) for kind in kinds], [end(kind, 1.0) for kind in kinds]
    assert torch.equal(quiet[0], quiet[1])
    assert torch.equal(quiet[0], quiet[2])
    assert torch.equal(quiet[0], loud[2])
    assert not torch.allclose(loud[0], loud[1])
    assert not torch.allclose(loud[0], loud[2])
