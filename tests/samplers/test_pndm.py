"""PNDM and PLMS: equal to diffusers' PNDMScheduler where its timesteps agree with each other."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, drive

diffusers = pytest.importorskip("diffusers")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EVERY = pytest.mark.parametrize("skip", [True, False], ids=["plms", "pndm"])


def start() -> torch.Tensor:
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def both(make_mixture, steps: int, prediction: str = "eps", **config):
    """(ours, theirs, the timesteps of each) of a whole walk."""
    named = {"eps": "epsilon", "v": "v_prediction"}[prediction]
    scheduler = diffusers.PNDMScheduler(**{**SD, "steps_offset": 1, **config}, prediction_type=named)
    scheduler.set_timesteps(steps)
    levels = NoiseLevels.discrete(scheduler.alphas_cumprod.double())
    denoise = make_mixture(levels)

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        sigma = levels.sigma(t)
        skip, out, c_in = levels.scalings(prediction, sigma)
        return (denoise(x / c_in, sigma) - skip * x / c_in) / out

    expected = start()
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, t.item()), t, expected).prev_sample

    last = 0.0 if scheduler.config.set_alpha_to_one else levels.sigma_min
    sigmas = [*(levels.sigma(t) for t in scheduler._timesteps[::-1].tolist()), last]
    name = "plms" if scheduler.config.skip_prk_steps else "pndm"
    stepper = Stepper(name, sigmas, levels=levels, prediction=prediction, options={"final": "multistep"})
    x = start() / levels.scale_input(sigmas[0])
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    end = levels.scale_input(last) if last else 1.0
    return x * end, expected, stepper.timesteps, scheduler.timesteps.tolist()


@EVERY
@pytest.mark.parametrize("steps", [4, 10, 50])
def test_equal_to_diffusers(make_mixture, skip: bool, steps: int) -> None:
    """The timesteps too: PLMS evaluates the second one twice, the Runge-Kutta start its middles and ends."""
    ours, theirs, times, expected = both(make_mixture, steps, skip_prk_steps=skip)
    assert times == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.parametrize(
    "config", [{"set_alpha_to_one": True}, {"timestep_spacing": "trailing"}], ids=["one", "trailing"]
)
def test_other_ends_and_spacings(make_mixture, skip: bool, config: dict) -> None:
    ours, theirs, times, expected = both(make_mixture, 10, skip_prk_steps=skip, **config)
    assert times == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_one_step_is_eulers(make_mixture) -> None:
    ours, theirs, times, expected = both(make_mixture, 1, skip_prk_steps=True)
    assert times == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def solution(make_mixture, first: float, last: float) -> torch.Tensor:
    """Where the ODE leads, from one timestep to another (below 0: to the data)."""
    levels = NoiseLevels.discrete(diffusers.PNDMScheduler(**SD).alphas_cumprod.double())
    high, low = levels.sigma(first), levels.sigma(last) if last >= 0 else 1e-3
    sigmas = [high * (low / high) ** (i / 300) for i in range(300)] + ([low] if last >= 0 else [low, 0.0])
    end = drive("rk4_4s", make_mixture(levels), start() / levels.scale_input(high), sigmas, levels=levels)
    return end * levels.scale_input(sigmas[-1])


@EVERY
@pytest.mark.parametrize("steps", [10, 50])
def test_where_theirs_steps_to_another_level_than_it_evaluates(make_mixture, skip: bool, steps: int) -> None:
    """Their step goes N // n timesteps down, but with "linspace" the next evaluation is (N - 1) / (n - 1) below."""
    config = {"timestep_spacing": "linspace", "set_alpha_to_one": True}
    ours, theirs, _, _ = both(make_mixture, steps, skip_prk_steps=skip, **config)
    exact = solution(make_mixture, 999, -1)
    assert 2 * (ours - exact).norm() < (theirs - exact).norm()


@EVERY
def test_where_theirs_mixes_velocities(make_mixture, skip: bool) -> None:
    """They sum the models' v of several steps and make noise of it with the alpha and sample of one: order 1.

    Ours makes noise of each v where it was predicted, so that v and eps give one walk.
    """
    errors = []
    for steps in (50, 100):
        ours, theirs, _, _ = both(make_mixture, steps, "v", skip_prk_steps=skip)
        noise, _, _, _ = both(make_mixture, steps, "eps", skip_prk_steps=skip)
        torch.testing.assert_close(ours, noise, rtol=1e-8, atol=1e-8)
        exact = solution(make_mixture, 1 + (steps - 1) * (1000 // steps), 0)
        errors.append((theirs - exact).norm().item())
        assert 10 * (ours - exact).norm() < errors[-1]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)
