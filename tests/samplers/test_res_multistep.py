"""RES and ABNorsett: the paper's own formula, and what noise the ancestral one puts back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule


def phi(k: int, z: float) -> float:
    return sum(z**n / math.factorial(n + k) for n in range(60))


@pytest.mark.parametrize("name", ["res_multistep", "res_2m", "abnorsett_2m"])
def test_two_places(levels: NoiseLevels, mixture, name: str) -> None:
    """y = x / sigma: y_next = y exp(-h) ... in the data's own scale, b_2 = phi_2(-h) / c_2, b_1 = phi_1(-h) - b_2."""
    sigmas = schedule("karras", 9, levels)[1:-1]
    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    got = drive(name, mixture, x, sigmas, levels=levels)
    z, before, last = x / levels.alpha(sigmas[0]), None, 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = mixture(z * levels.alpha(sigma), sigma)
        h = levels.half_log_snr(sigma_next) - levels.half_log_snr(sigma)
        b2 = phi(2, -h) / (-last / h) if before is not None else 0.0
        z = math.exp(-h) * z + h * (phi(1, -h) - b2) * denoised
        z = z + h * b2 * before if before is not None else z
        before, last = denoised, h
    torch.testing.assert_close(got, z * levels.alpha(sigmas[-1]), rtol=1e-10, atol=1e-10)


def test_res_3m_meets_the_conditions_of_the_paper(levels: NoiseLevels) -> None:
    """b_2 = gamma b_3 with 2 (gamma c_2 + c_3) = 3 (gamma c_2^2 + c_3^2), b_3 = phi_2 / (gamma c_2 + c_3).

    Read off a walk whose denoised is 1 at one level and 0 at the others.
    """
    sigmas = [0.8, 0.6, 0.5, 0.35]
    h = levels.half_log_snr(0.35) - levels.half_log_snr(0.5)
    c2, c3 = ((levels.half_log_snr(at) - levels.half_log_snr(0.5)) / h for at in (0.6, 0.8))
    gamma = (3 * c3**2 - 2 * c3) / (c2 * (2 - 3 * c2))
    b3 = phi(2, -h) / (gamma * c2 + c3)
    expected = {0.5: phi(1, -h) - (1 + gamma) * b3, 0.6: gamma * b3, 0.8: b3}
    for place, weight in expected.items():
        walks = [
            drive(
                "res_3m",
                lambda x, s, place=place: torch.full_like(x, float(s == place)),
                torch.zeros(1, 1, dtype=torch.float64),
                sigmas[:count],
                levels=levels,
            ).item()
            for count in (3, 4)
        ]
        found = walks[1] - walks[0] * 0.35 / 0.5
        assert found == pytest.approx(levels.alpha(0.35) * h * weight, rel=1e-9)


def test_even_spacing_bounds_the_weights(levels: NoiseLevels) -> None:
    """A long step after short ones: exact spacing goes far beyond what is known, even spacing does not."""
    sigmas = [0.8, 0.799, 0.798, 0.02]
    ends = {}
    for spacing in ("exact", "even"):
        end = drive(
            "abnorsett_3m",
            lambda x, s: torch.full_like(x, float(s == 0.799)),
            torch.zeros(1, 1, dtype=torch.float64),
            sigmas,
            levels=levels,
            options={"spacing": spacing},
        )
        ends[spacing] = abs(end.item())
    assert ends["even"] < 20
    assert ends["exact"] > 1e4


def test_ancestral_puts_back_the_ancestral_noise(levels: NoiseLevels) -> None:
    """While denoised is constant its steps are those of Euler a."""
    sigmas = schedule("karras", 8, levels)
    ends = []
    for name in ("res_multistep_ancestral", "euler_ancestral"):
        generator = torch.Generator().manual_seed(4)
        x = torch.full((2, 6), sigmas[0], dtype=torch.float64)
        ends.append(
            drive(
                name,
                lambda x, s: torch.full_like(x, 0.4),
                x,
                sigmas[:-1],
                levels=levels,
                noise=lambda a, b, g=generator: torch.randn(2, 6, generator=g, dtype=torch.float64),
                options={"eta": 0.8},
            )
        )
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


def test_ancestral_goes_back_as_far_as_it_came_down(levels: NoiseLevels) -> None:
    """With eta 1 and even steps in lambda, from which sigma_down is twice as far: the slope of the even steps."""
    sigmas = [levels.sigma_of(at) for at in (-1.0, 0.0, 1.0)]
    down = [levels.ancestral(a, b, 1.0) for a, b in pairwise(sigmas)]
    way, h = (levels.half_log_snr(d) - levels.half_log_snr(s) for d, s in zip(down, sigmas, strict=False))
    walks = [
        drive(
            "res_multistep_ancestral",
            lambda x, s: torch.full_like(x, float(s == sigmas[0])),
            torch.zeros(1, 1, dtype=torch.float64),
            sigmas[:count],
            levels=levels,
            noise=lambda a, b: torch.zeros(1, 1, dtype=torch.float64),
        ).item()
        for count in (2, 3)
    ]
    scale, _ = levels.renoise(down[1], sigmas[2])
    slope = walks[1] - walks[0] * scale * down[1] / sigmas[1]
    assert slope == pytest.approx(-scale * levels.alpha(down[1]) * h * phi(2, -h) * h / way, rel=1e-9)
