"""Step by step from someone else's loop: the same numbers as the loop of ours."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    SAMPLERS,
    ImageNoise,
    NoiseLevels,
    NonFiniteError,
    SamplerSpec,
    Stepper,
    drive,
    schedule,
)

SEEDS, SHAPE = [1, 2], (3, 6)
# an adaptive method's evaluations are not known beforehand, which it says (test_dpm_adaptive.py)
every = pytest.mark.parametrize("spec", [s for s in SAMPLERS if not s.adaptive], ids=lambda spec: spec.name)
noisy = pytest.mark.parametrize("noisy", [False, True], ids=["default", "noisy"])


def options_of(spec: SamplerSpec, noisy: bool) -> dict[str, float]:
    if not noisy or spec.noise_option is None:
        return {}
    return {spec.noise_option: 3.0 if spec.noise_option == "s_churn" else 0.8}


def start(sigmas: list[float]) -> tuple[torch.Tensor, ImageNoise]:
    noise = ImageNoise(SEEDS, SHAPE)
    return noise.next() * sigmas[0], noise


@every
@noisy
def test_equal_to_the_loop(spec: SamplerSpec, levels: NoiseLevels, mixture, noisy: bool) -> None:
    """Bit-equal pictures; the timesteps of the dry run are those that the loop evaluates."""
    sigmas, options = schedule("karras", 7, levels), options_of(spec, noisy)
    evaluated: list[float] = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        evaluated.append(sigma)
        return mixture(x, sigma)

    x, noise = start(sigmas)
    expected = drive(spec, denoise, x, sigmas, levels=levels, noise=noise, options=options)

    x, noise = start(sigmas)
    stepper = Stepper(spec, sigmas, levels=levels, noise=noise, options=options)
    assert stepper.evaluated == evaluated
    assert stepper.timesteps == [levels.timestep(sigma) for sigma in evaluated]
    sample = stepper.begin(x)
    for t, sigma in zip(stepper.timesteps, stepper.evaluated, strict=True):
        sample = stepper.step(mixture(sample, sigma), t, sample)
    assert torch.equal(sample, expected)


@every
def test_edits_between_steps_are_taken_up(spec: SamplerSpec, levels: NoiseLevels, mixture) -> None:
    """An edited latent changes the result, as new memory or in place alike; kept tensors are not written to."""
    sigmas = schedule("karras", 6, levels)
    ends = []
    for edit in (None, lambda x: x * 1.5, lambda x: x.mul_(1.5)):
        x, noise = start(sigmas)
        stepper = Stepper(spec, sigmas, levels=levels, noise=noise)
        sample, kept = stepper.begin(x), []
        for index, (t, sigma) in enumerate(zip(stepper.timesteps, stepper.evaluated, strict=True)):
            if edit is not None and index == 2 * spec.evaluations:
                sample = edit(sample)
            kept.append((sample, sample.clone()))
            sample = stepper.step(mixture(sample, sigma), t, sample)
        assert all(torch.equal(now, then) for now, then in kept)
        ends.append(sample)
    assert not torch.allclose(ends[0], ends[1], rtol=1e-4)
    assert torch.equal(ends[1], ends[2])


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_an_edit_is_a_fresh_start_for_a_one_step_method(levels: NoiseLevels, mixture, name: str) -> None:
    sigmas = schedule("karras", 6, levels)
    x, _ = start(sigmas)
    half = drive(name, mixture, x, sigmas[:4], levels=levels)
    expected = drive(name, mixture, half + 0.3, sigmas[3:], levels=levels)
    stepper = Stepper(name, sigmas, levels=levels)
    sample = x
    for index, (t, sigma) in enumerate(zip(stepper.timesteps, stepper.evaluated, strict=True)):
        if index == 3 * SAMPLERS[name].evaluations:
            sample = sample + 0.3
        sample = stepper.step(mixture(sample, sigma), t, sample)
    assert torch.equal(sample, expected)


def test_begin_again_starts_over(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 4, levels)
    x, _ = start(sigmas)
    stepper = Stepper("dpmpp_2m", sigmas, levels=levels)
    ends = []
    for _ in range(2):
        sample = stepper.begin(x)
        for t, sigma in zip(stepper.timesteps, stepper.evaluated, strict=True):
            sample = stepper.step(mixture(sample, sigma), t, sample)
        ends.append(sample)
    assert torch.equal(*ends)


def test_out_of_turn() -> None:
    levels = NoiseLevels.discrete()
    x = torch.ones(1, 4)
    stepper = Stepper("euler", [10.0, 1.0, 0.0], levels=levels)
    with pytest.raises(OptionError, match="out of turn"):
        stepper.step(x, stepper.timesteps[1], x)
    for t in stepper.timesteps:
        x = stepper.step(x * 0.5, t, x)
    with pytest.raises(OptionError, match="after the last"):
        stepper.step(x, 0.0, x)


def test_churn_asks_for_begin() -> None:
    levels = NoiseLevels.discrete()
    options = {"s_churn": 1.0}
    stepper = Stepper(
        "euler", [10.0, 1.0, 0.0], levels=levels, options=options, noise=lambda a, b: torch.ones(1, 4)
    )
    with pytest.raises(OptionError, match=r"begin\(sample\)"):
        stepper.step(torch.ones(1, 4), stepper.timesteps[0], torch.ones(1, 4))


def test_nan_names_the_step() -> None:
    stepper = Stepper("heun", [10.0, 5.0, 1.0, 0.0], levels=NoiseLevels.discrete())
    sample = torch.ones(1, 4)
    for t in stepper.timesteps[:2]:
        sample = stepper.step(sample * 0.5, t, sample)
    with pytest.raises(NonFiniteError, match="step 2 of 3, sigma 5"):
        stepper.step(sample * float("nan"), stepper.timesteps[2], sample)
