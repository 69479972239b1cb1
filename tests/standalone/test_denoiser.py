"""A perfect network, whatever it predicts, gives back x0; the guidance arithmetic is the papers'."""

from __future__ import annotations

import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import ClassifierFree, Conditional, guided

X0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
EMPTY = Conditioning(torch.zeros(2, 1, 8))


def perfect(prediction: str, sigma: float) -> torch.Tensor:
    """What a network that knows x0 answers, by the definition of each parametrisation."""
    alpha_vp, sigma_vp = 1 / math.hypot(sigma, 1), sigma / math.hypot(sigma, 1)
    c_skip = 0.25 / (sigma**2 + 0.25)
    c_out = sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
    return {
        "eps": NOISE,
        "v": alpha_vp * NOISE - sigma_vp * X0,
        "x0": X0,
        "flow": NOISE - X0,
        "edm": (X0 - c_skip * (X0 + sigma * NOISE)) / c_out,
    }[prediction]


class Fake(torch.nn.Module):
    """Answers ``answer`` for every image; keeps what it was called with."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer, self.calls = answer, []
        self.conv = torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x, timesteps, context, y, hooks):  # type: ignore[no-untyped-def]
        self.calls.append((x, timesteps, context))
        return self.answer.repeat(len(x) // len(self.answer), 1, 1, 1)


LEVELS = {
    "eps": NoiseLevels.discrete(),
    "v": NoiseLevels.discrete(),
    "x0": NoiseLevels.discrete(),
    "flow": NoiseLevels.flow(),
    "edm": NoiseLevels.edm(),
}


@pytest.mark.parametrize("prediction", list(LEVELS))
@pytest.mark.parametrize("sigma", [0.05, 0.6, 0.95])
def test_every_prediction_gives_back_x0(prediction: str, sigma: float) -> None:
    levels = LEVELS[prediction]
    x = levels.alpha(sigma) * X0 + sigma * NOISE
    fake = Fake(perfect(prediction, sigma))
    denoised = Denoiser(fake, levels, prediction, torch.float32)(x, sigma, EMPTY)  # type: ignore[arg-type]
    torch.testing.assert_close(denoised, X0, rtol=1e-4, atol=1e-4)
    seen, timesteps, _ = fake.calls[0]
    assert timesteps.tolist() == pytest.approx([levels.timestep(sigma)] * 2)
    assert seen.is_contiguous(memory_format=torch.channels_last)


class Split(torch.nn.Module):
    """A network whose answer for cond (context 1) and uncond (context 0) differ."""

    def __init__(self, cond: torch.Tensor, uncond: torch.Tensor) -> None:
        super().__init__()
        self.cond, self.uncond, self.evaluations, self.images = cond, uncond, 0, 0

    def forward(self, x, timesteps, context, y, hooks):  # type: ignore[no-untyped-def]
        self.evaluations += 1
        self.images += len(x)
        pick = context[:, :1, :1, None]
        k = len(x) // len(self.cond)
        return torch.where(pick > 0, self.cond.repeat(k, 1, 1, 1), self.uncond.repeat(k, 1, 1, 1))


def guidance(scale: float, rescale: float = 0.0) -> tuple[Split, torch.Tensor]:
    net = Split(NOISE, X0)
    denoiser = Denoiser(net, LEVELS["eps"], "eps", torch.float32)  # type: ignore[arg-type]
    cond, uncond = Conditioning(torch.ones(2, 1, 8)), EMPTY
    return net, guided(denoiser, cond, uncond, scale, rescale)(X0 + NOISE, 1.0)


@pytest.mark.parametrize("scale", [1.5, 7.0, -1.0])
def test_cfg_is_its_formula_in_one_evaluation(scale: float) -> None:
    net, denoised = guidance(scale)
    cond, uncond = X0 + NOISE - NOISE, X0 + NOISE - X0
    torch.testing.assert_close(denoised, uncond + scale * (cond - uncond), rtol=1e-5, atol=1e-5)
    assert (net.evaluations, net.images) == (1, 4)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_no_guidance_evaluates_the_prompt_alone(scale: float) -> None:
    net, denoised = guidance(scale)
    torch.testing.assert_close(denoised, X0)
    assert (net.evaluations, net.images) == (1, 2)


def test_rescale_equals_diffusers() -> None:
    rescale_noise_cfg = pytest.importorskip(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"
    ).rescale_noise_cfg
    _, denoised = guidance(5.0, rescale=0.7)
    output = rescale_noise_cfg(X0 + 5.0 * (NOISE - X0), NOISE, guidance_rescale=0.7)
    torch.testing.assert_close(denoised, X0 + NOISE - output, rtol=1e-4, atol=1e-4)


def test_without_uncond_guidance_is_off() -> None:
    denoiser = Denoiser(Fake(NOISE), LEVELS["eps"], "eps", torch.float32)  # type: ignore[arg-type]
    assert isinstance(guided(denoiser, EMPTY, None, 7.0), Conditional)
    assert isinstance(guided(denoiser, EMPTY, EMPTY, 7.0), ClassifierFree)
