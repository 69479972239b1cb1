"""Ancestral sampling: equal to diffusers' DDPMScheduler with the same noise, and its variances from theory."""

from __future__ import annotations

import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, drive, schedule

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (2, 6)


def white(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *sigmas: torch.randn(SHAPE, dtype=torch.float64, generator=generator)


def both(make_mixture, steps: int, variance: str, **config) -> tuple[torch.Tensor, torch.Tensor]:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(**{**SD, "clip_sample": False, **config}, variance_type=variance)
    scheduler.set_timesteps(steps)
    levels = NoiseLevels.discrete(scheduler.alphas_cumprod.double())
    denoise = make_mixture(levels)

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        sigma = levels.sigma(t)
        x = x / levels.scale_input(sigma)
        return (x - denoise(x, sigma)) / sigma

    start, generator = white(3)(), torch.Generator().manual_seed(4)
    expected = start
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, t.item()), t, expected, generator=generator).prev_sample
    sigmas = [*(levels.sigma(t) for t in scheduler.timesteps.tolist()), 0.0]
    options = {"variance_type": variance}
    stepper = Stepper("ddpm", sigmas, levels=levels, prediction="eps", options=options, noise=white(4))
    x = start / levels.scale_input(sigmas[0])
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    return x, expected


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("spacing", ["linspace", "leading"])
@pytest.mark.parametrize("steps", [2, 10, 50])
def test_equal_to_diffusers(make_mixture, variance: str, spacing: str, steps: int) -> None:
    ours, theirs = both(make_mixture, steps, variance, timestep_spacing=spacing)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_their_large_log_is_the_root_of_a_logarithm(make_mixture) -> None:
    """log(beta) is below 0 and they scale the noise by its root: NaN. Its exponential is fixed_large's beta."""
    log, theirs = both(make_mixture, 10, "fixed_large_log")
    plain, _ = both(make_mixture, 10, "fixed_large")
    assert theirs.isnan().any()
    assert torch.equal(log, plain)


def test_fixed_large_is_the_forward_noise_at_unit_variance(levels: NoiseLevels) -> None:
    """One step from sigma to sigma_next: x / size has signal s = alpha^2 / size^2 and noise beta = 1 - s / s_next."""
    sigma, sigma_next = 0.9, 0.4
    ends = []
    for value in (0.0, 1.0):
        noise = torch.full(SHAPE, value, dtype=torch.float64)
        ends.append(
            drive(
                "ddpm",
                lambda x, s: x * 0.3,
                torch.ones_like(noise),
                [sigma, sigma_next],
                levels=levels,
                noise=lambda a, b, noise=noise: noise,
                options={"variance_type": "fixed_large"},
            )
        )
    share, share_next = (levels.alpha(s) ** 2 / (levels.alpha(s) ** 2 + s**2) for s in (sigma, sigma_next))
    size = math.hypot(levels.alpha(sigma_next), sigma_next)
    assert (ends[1] - ends[0]).unique().item() == pytest.approx(size * math.sqrt(1 - share / share_next))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_both_variances_sample_the_data(levels: NoiseLevels, variance: str) -> None:
    """Gaussian data N(0.5, 0.6^2): in many steps small and large meet the same law, from below and from above."""
    generator = torch.Generator().manual_seed(3)
    sigmas = schedule("exponential", 500, NoiseLevels.edm(0.002, 20.0))
    sigmas = [levels.sigma_of(-math.log(s)) if s else 0.0 for s in sigmas]

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = levels.alpha(sigma)
        return 0.5 + alpha * 0.36 / (alpha**2 * 0.36 + sigma**2) * (x - alpha * 0.5)

    def draw(*_) -> torch.Tensor:
        return torch.randn(10000, 1, generator=generator)

    x = levels.alpha(sigmas[0]) * (0.5 + 0.6 * draw()) + sigmas[0] * draw()
    end = drive("ddpm", denoise, x, sigmas, levels=levels, noise=draw, options={"variance_type": variance})
    assert end.mean().item() == pytest.approx(0.5, abs=0.02)
    assert end.std().item() == pytest.approx(0.6, rel=0.03)
