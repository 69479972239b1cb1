"""TCD, LCM and consistency: equal to diffusers with the same noise, and their closed forms on both processes."""

from __future__ import annotations

import math

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, drive, schedule
from sigmagraft.samplers.consistency import ConsistencyLevels
from sigmagraft.samplers.lcm import boundary
from sigmagraft.samplers.tcd import intermediate

SHAPE = (2, 6)
PREDICTIONS = pytest.mark.parametrize(
    ("prediction", "named"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")]
)


def white(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *sigmas: torch.randn(SHAPE, dtype=torch.float64, generator=generator)


def both(make_mixture, scheduler, name: str, prediction: str, last: float, options: dict, more: dict):
    """(ours, theirs) from the same start and noise, ours ending at the level `last`, in the scale of unit variance."""
    levels = NoiseLevels.discrete(scheduler.alphas_cumprod.double())
    denoise = make_mixture(levels)

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        sigma = levels.sigma(t)
        skip, out, c_in = levels.scalings(prediction, sigma)
        return (denoise(x / c_in, sigma) - skip * x / c_in) / out

    start, generator = white(3)(), torch.Generator().manual_seed(4)
    expected = start
    for t in scheduler.timesteps:
        more["generator"] = generator
        expected = scheduler.step(network(expected, t.item()), t, expected, **more).prev_sample
    sigmas = [*(levels.sigma(t) for t in scheduler.timesteps.tolist()), last]
    stepper = Stepper(name, sigmas, levels=levels, prediction=prediction, options=options, noise=white(4))
    x = start / levels.scale_input(sigmas[0])
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    return x * levels.scale_input(last), expected


@PREDICTIONS
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 11])
def test_tcd_is_diffusers(make_mixture, prediction: str, named: str, eta: float, steps: int) -> None:
    """Their walk ends at timestep 0, whose level is above sigma 0."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.TCDScheduler(prediction_type=named)
    scheduler.set_timesteps(steps)
    last = NoiseLevels.discrete(scheduler.alphas_cumprod.double()).sigma_min
    got, expected = both(make_mixture, scheduler, "tcd", prediction, last, {"gamma": eta}, {"eta": eta})
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.05, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_tcds_intermediate_level_is_the_table_entry_that_theirs_takes(gamma: float) -> None:
    levels = NoiseLevels.discrete()
    for t in range(1000):
        entry = torch.floor((1 - gamma) * torch.tensor(t)).to(torch.long).item()
        assert intermediate(levels, levels.sigma(t), gamma) == levels.sigmas[entry]


def test_tcds_intermediate_level_elsewhere(levels: NoiseLevels) -> None:
    """Never above the next level; on rectified flow time is sigma."""
    for gamma in (0.0, 0.3, 1.0):
        assert intermediate(NoiseLevels.flow(3.0), 0.6, gamma) == pytest.approx((1 - gamma) * 0.6)
        for sigma in (0.0, 1e-4, 0.0123, 0.4):
            assert intermediate(levels, sigma, gamma) <= sigma
    assert intermediate(levels, 0.4, 0.0) == 0.4


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_tcds_noise_adds_up(levels: NoiseLevels, gamma: float) -> None:
    """x = alpha x0 + sigma e, a model that knows x0: x_next = alpha_next x0 + old e + new noise of size sigma_next."""
    sigma, sigma_next, x0 = 0.9, 0.5, 0.25

    def step(e: float, noise: float) -> float:
        x = torch.full(SHAPE, levels.alpha(sigma) * x0 + sigma * e, dtype=torch.float64)
        model = lambda x, s: torch.full_like(x, x0)  # noqa: E731
        options, source = {"gamma": gamma}, lambda a, b: torch.full_like(x, noise)
        end = drive("tcd", model, x, [sigma, sigma_next], levels=levels, noise=source, options=options)
        return end.unique().item()

    middle = step(0.0, 0.0)
    assert middle == pytest.approx(levels.alpha(sigma_next) * x0)
    old, new = step(1.0, 0.0) - middle, step(0.0, 1.0) - middle
    assert math.hypot(old, new) == pytest.approx(sigma_next)
    down = intermediate(levels, sigma_next, gamma)
    assert old == pytest.approx(levels.alpha(sigma_next) / levels.alpha(down) * down)
    assert (new == 0.0) == (gamma == 0.0)


def test_tcd_without_noise_is_eulers_method(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("karras", 8, levels)
    x = sigmas[0] * white(1)()
    ends = [
        drive(name, mixture, x, sigmas, levels=levels, options=options)
        for name, options in (("tcd", {"gamma": 0.0}), ("euler", {}))
    ]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


def test_tcd_of_new_noise_alone_is_lcm(make_mixture) -> None:
    """On rectified flow, where gamma 1 leads to time 0 exactly."""
    levels = NoiseLevels.flow()
    denoise = make_mixture(levels)
    sigmas = [1.0, 0.75, 0.5, 0.25, 0.0]
    ends = [
        drive(name, denoise, white(1)(), sigmas, levels=levels, noise=white(2), options=options)
        for name, options in (("tcd", {"gamma": 1.0}), ("lcm", {}))
    ]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


@PREDICTIONS
@pytest.mark.parametrize("scaling", [10.0, 0.02])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_lcm_is_diffusers(make_mixture, prediction: str, named: str, scaling: float, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.LCMScheduler(prediction_type=named, timestep_scaling=scaling)
    scheduler.set_timesteps(steps)
    options = {"timestep_scaling": scaling}
    got, expected = both(make_mixture, scheduler, "lcm", prediction, 0.0, options, {})
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [NoiseLevels.discrete, NoiseLevels.flow, NoiseLevels.edm])
def test_the_boundary_condition_is_the_identity_at_the_data(make) -> None:
    levels = make()
    assert boundary(levels, 0.0, 10.0) == (1.0, 0.0)
    assert boundary(levels, levels.sigma_max, math.inf) == (0.0, 1.0)
    skip, out = boundary(levels, 0.3, 0.4)
    assert skip + out**2 == pytest.approx(1.0)
    assert 0.0 < skip < 1.0


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("s_noise", [1.0, 1.02])
def test_consistency_is_diffusers(steps: int, s_noise: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False, s_noise=s_noise)
    scheduler.set_timesteps(steps)
    levels = ConsistencyLevels(0.002, 80.0, 0.5)

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.sin(3.0 * x) + 0.002 * t

    start, generator = 80.0 * white(3)(), torch.Generator().manual_seed(4)
    expected = start
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(expected, t), t.item())
        expected = scheduler.step(output, t, expected, generator=generator).prev_sample
    options = {"s_noise": s_noise}
    sigmas = scheduler.sigmas.double().tolist()
    stepper = Stepper(
        "consistency", sigmas, levels=levels, prediction="consistency", options=options, noise=white(4)
    )
    assert stepper.timesteps == pytest.approx(scheduler.timesteps.tolist(), abs=1e-3)
    x = start
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)


def test_a_consistency_model_is_the_identity_at_sigma_min() -> None:
    levels = ConsistencyLevels(0.002, 80.0, 0.5)
    skip, out, _ = levels.scalings("consistency", 0.002)
    assert (skip, out) == (1.0, 0.0)
    assert levels.sigma(levels.timestep(3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["lcm", "consistency"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_perfect_model_gives_the_datas_law_in_any_number_of_steps(
    levels: NoiseLevels, name: str, steps: int
) -> None:
    """Gaussian data N(0.5, 0.6^2): the ODE's end is 0.5 + 0.6 (x - 0.5 alpha) / sqrt(alpha^2 0.36 + sigma^2)."""
    generator = torch.Generator().manual_seed(5)

    def jump(x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = levels.alpha(sigma)
        return 0.5 + 0.6 * (x - 0.5 * alpha) / math.hypot(0.6 * alpha, sigma)

    def draw(*_) -> torch.Tensor:
        return torch.randn(20000, 1, generator=generator, dtype=torch.float64)

    sigmas = schedule("normal", steps, levels)
    x = levels.alpha(sigmas[0]) * (0.5 + 0.6 * draw()) + sigmas[0] * draw()
    end = drive(name, jump, x, sigmas, levels=levels, noise=draw)
    assert end.mean().item() == pytest.approx(0.5, abs=0.015)
    assert end.std().item() == pytest.approx(0.6, rel=0.02)
