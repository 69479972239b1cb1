"""Linear multistep methods: against diffusers, and the identities between them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.samplers.ipndm import even
from sigmagraft.samplers.lms import integrals

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ORDERS = pytest.mark.parametrize("order", [1, 2, 3, 4])
UNEVEN = [5.0, 3.1, 2.5, 1.2, 0.7, 0.1]
EVEN = [4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0]


def start(sigma: float) -> torch.Tensor:
    return sigma * torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def same(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@ORDERS
def test_weights_integrate_polynomials_of_their_degree(order: int) -> None:
    polynomial = np.polynomial.Polynomial([2.0, -1.0, 0.3, 0.7][:order])
    whole = polynomial.integ()
    for step in range(order - 1, len(UNEVEN) - 1):
        weights = integrals(UNEVEN, step, order)
        slopes = [polynomial(UNEVEN[step - j]) for j in range(order)]
        assert np.dot(weights, slopes) == pytest.approx(whole(UNEVEN[step + 1]) - whole(UNEVEN[step]))


@ORDERS
def test_on_even_steps_the_weights_are_the_fixed_ones(order: int) -> None:
    assert even(EVEN, 4, order) == pytest.approx(integrals(EVEN, 4, order))


@ORDERS
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [4, 15])
def test_lms_is_diffusers(make_mixture, order: int, spacing: str, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.LMSDiscreteScheduler(**SD, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().tolist()
    denoise = make_mixture(NoiseLevels.discrete())
    x = expected = start(sigmas[0])
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=False):
        scheduler.scale_model_input(expected, t)
        output = (expected - denoise(expected, sigma)) / sigma
        expected = scheduler.step(output, t, expected, order=order).prev_sample
    got = drive("lms", denoise, x, sigmas, levels=NoiseLevels.discrete(), options={"order": order})
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_ipndm_is_diffusers(make_mixture, steps: int) -> None:
    """Their latent has unit variance, x = alpha x0 + beta noise, the model predicts v, and the last step is one more.

    Their own first beta is 1, where they take the latent itself for the noise and leave the model's answer out;
    trained_betas are the betas of the walk, here from 0.99 to 0.
    """
    diffusers = pytest.importorskip("diffusers")
    betas = torch.linspace(0.99, 0.0, steps + 1)
    scheduler = diffusers.IPNDMScheduler(trained_betas=betas.tolist())
    scheduler.set_timesteps(steps)
    alphas = scheduler.alphas.double()
    sigmas = (betas.double() / alphas).tolist()
    levels = NoiseLevels.discrete()
    denoise = make_mixture(levels)
    expected = x = start(1.0)
    for t, alpha, sigma in zip(scheduler.timesteps, alphas, sigmas, strict=False):
        denoised = denoise(expected / alpha, sigma)
        velocity = (alpha * expected - denoised) / (alpha * sigma)  # alpha noise - beta x0
        expected = scheduler.step(velocity, t, expected).prev_sample
    got = drive("ipndm", denoise, x / alphas[0], sigmas, levels=levels, options={"final": "multistep"})
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_second_order_weights_of_uneven_steps() -> None:
    """1 + r / 2 and -r / 2, r the step over the last: those of the diff-sampler, under the name ipndm_v, too."""
    h, last = 1.2 - 2.5, 2.5 - 3.1
    assert integrals(UNEVEN, 2, 2) == pytest.approx([h * (1 + h / last / 2), -h * h / last / 2])


def test_ipndm_v_is_lms_with_another_end(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 9, levels)
    x = start(sigmas[0])
    for order in (1, 2, 3, 4):
        same(
            drive("ipndm_v", mixture, x, sigmas, levels=levels, options={"max_order": order}),
            drive("lms", mixture, x, sigmas, levels=levels, options={"order": order, "final": "denoised"}),
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lms", {"order": 1}),
        ("ipndm", {"max_order": 1}),
        ("ipndm_v", {"max_order": 1}),
        ("gradient_estimation", {"gamma": 1.0}),
    ],
)
def test_one_slope_is_euler(levels: NoiseLevels, mixture, name: str, options: dict) -> None:
    sigmas = schedule("karras", 9, levels)
    x = start(sigmas[0])
    same(
        drive(name, mixture, x, sigmas, levels=levels, options=options),
        drive("euler", mixture, x, sigmas, levels=levels),
    )


def test_gradient_estimation_is_its_equation(mixture, levels: NoiseLevels) -> None:
    sigmas = [0.9, 0.7, 0.4, 0.1]
    x = expected = start(0.9)
    last = None
    for sigma, sigma_next in pairwise(sigmas):
        slope = (expected - mixture(expected, sigma)) / sigma
        bent = slope if last is None else 2.5 * slope - 1.5 * last
        expected, last = expected + (sigma_next - sigma) * bent, slope
    same(
        drive("gradient_estimation", mixture, x, sigmas, levels=levels, options={"gamma": 2.5}),
        expected,
    )


def test_gradient_estimation_at_one_and_a_half_has_two_slopes_of_even_steps(
    mixture, levels: NoiseLevels
) -> None:
    sigmas = [0.9, 0.7, 0.5, 0.3, 0.1]
    same(
        drive("gradient_estimation", mixture, start(0.9), sigmas, levels=levels, options={"gamma": 1.5}),
        drive("ipndm", mixture, start(0.9), sigmas, levels=levels, options={"max_order": 2}),
    )


@pytest.mark.parametrize("name", ["lms", "ipndm", "ipndm_v", "pndm", "plms", "gradient_estimation"])
def test_the_step_to_sigma_0_takes_denoised_where_that_is_asked_for(
    name: str, levels: NoiseLevels, mixture
) -> None:
    sigmas, answers = schedule("karras", 8, levels), []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        answers.append(mixture(x, sigma))
        return answers[-1]

    x = start(sigmas[0])
    ends = [
        drive(name, denoise, x, sigmas, levels=levels, options={"final": how})
        for how in ("multistep", "denoised")
    ]
    assert torch.equal(ends[1], answers[-1])
    assert not torch.allclose(ends[0], ends[1], rtol=1e-9)


def test_heunpp2_is_its_equation(mixture, levels: NoiseLevels) -> None:
    """Three slopes, weighted w_j = sigma_j / (3 sigma_0); two where the level after the next is 0."""
    sigmas = [0.9, 0.7, 0.4, 0.1, 0.0]
    x = expected = start(0.9)
    for i, sigma in enumerate(sigmas[:-1]):
        slopes = [(expected - mixture(expected, sigma)) / sigma]
        weights, at = [0.0], expected
        for j, level in enumerate(sigmas[i + 1 : i + 3], i + 1):
            if level > 0.0:
                at = at + (level - sigmas[j - 1]) * slopes[-1]
                slopes.append((at - mixture(at, level)) / level)
                weights.append(level / sigmas[0])
        weights = [weight / len(slopes) for weight in weights]
        weights[0] = 1.0 - math.fsum(weights)
        expected = expected + (sigmas[i + 1] - sigma) * sum(
            w * d for w, d in zip(weights, slopes, strict=True)
        )
    same(drive("heunpp2", mixture, x, sigmas, levels=levels), expected)
