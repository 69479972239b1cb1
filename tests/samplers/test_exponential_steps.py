"""The steps of exponential multistep methods against quadrature, and the noise they take from one path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sigmagraft.samplers import SAMPLERS, NoiseLevels, drive, schedule
from sigmagraft.samplers.brownian import BrownianPath
from sigmagraft.samplers.exponential_steps import RULES, data_step, noise_step, rise, weights_by_parts
from sigmagraft.samplers.phi import moments
from sigmagraft.samplers.quadrature import gauss, over_sigma

integrate = pytest.importorskip("scipy.integrate")
PLACES = [0.6, 0.72, 0.85, 0.9]


def curve(count: int, at: float) -> float:
    """A polynomial of degree count - 1."""
    return sum(c * at**n for n, c in zip(range(count), (1.0, -2.0, 0.7, 0.3), strict=False))


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("place", [0.6, 0.35])
def test_data_step(levels: NoiseLevels, place: float, count: int, eta: float) -> None:
    """z = x / sigma^(1 + eta) alpha^eta has dz / dlambda = (1 + eta) alpha^(1 + eta) / sigma^(1 + eta) D.

    Places from the start of the step on (predictor) or from its end on (corrector).
    """
    places = [place, *PLACES][:count] if place != 0.6 else PLACES[:count]
    step = data_step(levels, 0.6, 0.35, places, eta)
    start, end = levels.half_log_snr(0.6), levels.half_log_snr(0.35)
    expected, _ = integrate.quad(
        lambda at: (1 + eta) * math.exp((1 + eta) * (at - end)) * curve(count, at), start, end, epsabs=1e-13
    )
    got = sum(w * curve(count, levels.half_log_snr(at)) for w, at in zip(step.weights, places, strict=True))
    assert got == pytest.approx(levels.alpha(0.35) * expected, rel=1e-10)
    assert (step.decay, step.std) == (levels.sde(0.6, 0.35, eta)[0], levels.sde(0.6, 0.35, eta)[2])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_noise_step(levels: NoiseLevels, count: int) -> None:
    """x / alpha changes by the integral of eps d(sigma / alpha)."""
    step = noise_step(levels, 0.6, 0.35, PLACES[:count])
    start, end = levels.half_log_snr(0.6), levels.half_log_snr(0.35)
    expected, _ = integrate.quad(lambda at: -math.exp(-at) * curve(count, at), start, end, epsabs=1e-13)
    got = sum(
        w * curve(count, levels.half_log_snr(at)) for w, at in zip(step.weights, PLACES[:count], strict=True)
    )
    assert got == pytest.approx(levels.alpha(0.35) * expected, rel=1e-10)
    assert step.decay == pytest.approx(levels.alpha(0.35) / levels.alpha(0.6))


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_where_alpha_is_0_the_polynomial_is_in_sigma(count: int, eta: float) -> None:
    """On the step from sigma 1 and on the one after it: the integral of D dg, g = (y / y_next)^(1 + eta)."""
    flow = NoiseLevels.flow()
    for sigma, sigma_next, places in ((1.0, 0.9, [0.9, 1.0, 0.7]), (0.9, 0.7, [0.9, 1.0, 0.7])):
        step = data_step(flow, sigma, sigma_next, places[:count], eta)
        first, last = ((1 - s) / s for s in (sigma, sigma_next))

        def density(y: float, last: float = last) -> float:
            return (1 + eta) * (y / last) ** eta / last * curve(count, 1 / (1 + y))

        expected, _ = integrate.quad(density, first, last, epsabs=1e-13)
        got = sum(w * curve(count, at) for w, at in zip(step.weights, places[:count], strict=True))
        assert got == pytest.approx(flow.alpha(sigma_next) * expected, rel=1e-6 if eta else 1e-10)
    assert noise_step(flow, 1.0, 0.9, [1.0]).weights == [flow.exact(1.0, 0.9)[1]]
    assert len(noise_step(flow, 0.9, 0.7, [0.9, 1.0]).weights) == 1


def test_by_parts_in_rho(levels: NoiseLevels) -> None:
    got = weights_by_parts(levels, 0.6, 0.35, PLACES[:3], lambda s: rise(levels, s, 0.35) ** 2)
    rho = {s: s / levels.alpha(s) for s in (0.35, *PLACES)}
    expected, _ = integrate.quad(lambda r: -2 * rho[0.35] ** 2 / r**3 * curve(3, r), rho[0.6], rho[0.35])
    total = sum(w * curve(3, rho[at]) for w, at in zip(got, PLACES[:3], strict=True))
    assert total == pytest.approx(levels.alpha(0.35) * expected, rel=1e-9)


@pytest.mark.parametrize(("rule", "count"), [("bh1", 2), ("bh2", 2), ("res", 3)])
def test_rules_agree_with_the_integrals_to_their_order(rule: str, count: int) -> None:
    """What a rule changes is the last integral only, by O(h): half of it where h is half."""
    changes = []
    for h in (0.02, 0.01):
        exact = moments(-h, count)
        *same, last = RULES[rule](exact)
        assert same == exact[:-1]
        changes.append(abs(last - exact[-1]))
    assert changes[0] / changes[1] == pytest.approx(2.0, rel=0.02)
    assert RULES[rule](moments(-0.02, count + 1)) == moments(-0.02, count + 1)


def test_quadrature(levels: NoiseLevels) -> None:
    for power in (0, 1, 38, 39):
        assert sum(w * u**power for u, w in gauss()) == pytest.approx(1 / (power + 1), rel=1e-13)
    spans = [(0.9, 0.02)] + ([(1.0, 0.5)] if levels.is_flow else [(14.0, 1.0)])
    for sigma, sigma_next in spans:
        got = sum(w * math.cos(s) for s, w in over_sigma(levels, sigma, sigma_next))
        assert got == pytest.approx(math.sin(sigma_next) - math.sin(sigma), rel=1e-10)


def on_one_path(levels: NoiseLevels) -> Callable[[float, float], torch.Tensor]:
    """Increments over (alpha / sigma)^2: while denoised is constant, `levels.sde` at eta 1 adds exactly those."""
    paths = [BrownianPath(seed, 6) for seed in (3, 5)]

    def noise(sigma: float, sigma_next: float) -> torch.Tensor:
        low, high = ((levels.alpha(at) / at) ** 2 for at in (sigma, sigma_next))
        ways = [path.way(low, high) for path in paths]
        return torch.stack([torch.from_numpy(way) / math.sqrt(variance) for way, variance in ways])

    return noise


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seeds_2", {}),
        ("seeds_3", {}),
        ("sa_solver", {"sde_start_percent": 0.0, "sde_end_percent": 1.0}),
        ("sa_solver_pece", {"sde_start_percent": 0.0, "sde_end_percent": 1.0}),
        ("er_sde", {"solver_type": "Reverse-time SDE"}),
        ("res_2m", {"eta": 1.0}),
        ("abnorsett_4m", {"eta": 1.0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_on_one_path_the_number_of_steps_does_not_matter(
    levels: NoiseLevels, name: str, options: dict[str, Any]
) -> None:
    """While denoised is constant: the noise of a step is that of its halves, or of its stages."""
    assert SAMPLERS[name].brownian
    ends = []
    for steps in (1, 7):
        sigmas = [s for s in schedule("karras", steps + 1, levels)[:-1]]
        sigmas = [min(sigmas[0], 0.97), *sigmas[1:]] if levels.is_flow else sigmas
        noise = on_one_path(levels)
        x = torch.full((2, 6), sigmas[0], dtype=torch.float64)
        ends.append(
            drive(name, lambda x, s: x * 0 + 0.3, x, sigmas, levels=levels, noise=noise, options=options)
        )
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-5)
    assert ends[0].std() > 0.5 * levels.sigma_min
