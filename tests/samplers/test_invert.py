"""Inversion: equal to diffusers' inverse schedulers, of the methods' order, and what goes up comes down."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, NoiseLevels, SamplerSpec, Stepper, drive, inverse, invert, schedule
from sigmagraft.samplers.invert import OWN_STEPS

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MEAN, DEVIATION = 0.5, 0.6
ODES = [s for s in SAMPLERS if s.order and not s.adaptive and (s.noise_option or not s.stochastic)]
ODES = [spec for spec in ODES if spec.name not in OWN_STEPS]
PREDICTIONS = pytest.mark.parametrize(
    ("prediction", "named"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")]
)


def picture() -> torch.Tensor:
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def both(make_mixture, scheduler, name: str, prediction: str, sigmas_of, **options):
    """(ours, theirs, timesteps of each) of a whole inversion, in the scale of unit variance."""
    levels = NoiseLevels.discrete(scheduler.alphas_cumprod.double())
    denoise = make_mixture(levels)

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        sigma = levels.sigma(t)
        skip, out, c_in = levels.scalings(prediction, sigma)
        return (denoise(x / c_in, sigma) - skip * x / c_in) / out

    expected = picture()
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, t.item()), t, expected).prev_sample
    sigmas = sigmas_of(levels)
    stepper = Stepper(inverse(name), sigmas, levels=levels, prediction=prediction, options=options)
    x = stepper.begin(picture() / (levels.scale_input(sigmas[0])))
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    return x * levels.scale_input(sigmas[-1]), expected, stepper.timesteps, scheduler.timesteps.tolist()


def ddim_inverses(make_mixture, steps: int, prediction: str, named: str, **config):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMInverseScheduler(**SD, **config, clip_sample=False, prediction_type=named)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    sigmas_of = lambda levels: [0.0, *(levels.sigma(t) for t in times)]  # noqa: E731
    return both(make_mixture, scheduler, "ddim", prediction, sigmas_of)


@pytest.mark.parametrize(
    "config", [{"steps_offset": 1}, {"timestep_spacing": "trailing"}], ids=["leading", "trailing"]
)
@pytest.mark.parametrize("steps", [2, 10, 50])
def test_ddim_is_diffusers(make_mixture, config: dict, steps: int) -> None:
    """From the picture itself, sigma 0, to the level of the last timestep; each step is told the level it leads to."""
    got, expected, ours, theirs = ddim_inverses(make_mixture, steps, "eps", "epsilon", **config)
    assert ours == pytest.approx(theirs, abs=1e-6)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_ddim_of_other_predictions_is_that_of_eps(make_mixture) -> None:
    """Theirs reads an output at the level below the one the network was told: v differs, and x0 is 0 / 0 at sigma 0."""
    eps, _, _, _ = ddim_inverses(make_mixture, 20, "eps", "epsilon", steps_offset=1)
    for prediction, named in (("v", "v_prediction"), ("x0", "sample")):
        got, theirs, _, _ = ddim_inverses(make_mixture, 20, prediction, named, steps_offset=1)
        torch.testing.assert_close(got, eps, rtol=1e-6, atol=1e-6)
        assert theirs.isnan().all() if prediction == "x0" else (theirs - eps).norm() > 1e-3


@PREDICTIONS
@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("dpmpp_2m", 2)])
@pytest.mark.parametrize("steps", [2, 15, 40])
def test_dpmpp_is_diffusers(
    make_mixture, prediction: str, named: str, name: str, order: int, steps: int
) -> None:
    """The picture is taken to be at timestep 0, whose level is small; the way ends at the last timestep's."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepInverseScheduler(
        **SD, solver_order=order, prediction_type=named, lower_order_final=False
    )
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().tolist()
    got, expected, ours, theirs = both(make_mixture, scheduler, name, prediction, lambda levels: sigmas)
    assert ours == pytest.approx(theirs, abs=1e-2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


class Gauss:
    """Data N(MEAN, DEVIATION^2): denoiser and the ODE's solution are known."""

    def __init__(self, levels: NoiseLevels) -> None:
        self.levels = levels

    def size(self, sigma: float) -> float:
        return math.hypot(self.levels.alpha(sigma) * DEVIATION, sigma)

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = self.levels.alpha(sigma)
        return MEAN + alpha * (DEVIATION / self.size(sigma)) ** 2 * (x - alpha * MEAN)

    def solution(self, x: torch.Tensor, sigma: float, end: float) -> torch.Tensor:
        """Where x at sigma is at `end`: it keeps its distance from the mean in deviations."""
        levels = self.levels
        away = (x - levels.alpha(sigma) * MEAN) / self.size(sigma)
        return levels.alpha(end) * MEAN + self.size(end) * away


def up(levels: NoiseLevels, steps: int) -> list[float]:
    low, high = (0.15, 0.85) if levels.is_flow else (0.2, 4.0)
    return [(low**0.5 + i / steps * (high**0.5 - low**0.5)) ** 2 for i in range(steps + 1)]


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_the_way_up_has_the_methods_order(levels: NoiseLevels, name: str) -> None:
    """Against the known solution; and the way back down ends where it began with an error of that order at most."""
    denoise, order, ways, rounds = Gauss(levels), SAMPLERS[name].order, [], []
    for steps in (80, 160):
        sigmas = up(levels, steps)
        top = invert(name, denoise, picture(), sigmas, levels=levels)
        ways.append((top - denoise.solution(picture(), sigmas[0], sigmas[-1])).norm().item())
        back = drive(name, denoise, top, sigmas[::-1], levels=levels)
        rounds.append((back - picture()).norm().item())
    assert math.log2(ways[0] / ways[1]) == pytest.approx(order, abs=0.2)
    assert math.log2(rounds[0] / rounds[1]) > order - 0.2


@pytest.mark.parametrize("spec", ODES, ids=lambda spec: spec.name)
def test_any_deterministic_method_goes_up_and_down(levels: NoiseLevels, spec: SamplerSpec) -> None:
    """Multistep methods begin at order 1 or 2, so that much is asked: the error falls at least with order 1."""
    denoise, rounds = Gauss(levels), []
    for steps in (40, 80):
        sigmas = up(levels, steps)
        top = invert(spec, denoise, picture(), sigmas, levels=levels)
        quiet = {spec.noise_option: 0.0} if spec.noise_option else {}
        back = drive(spec, denoise, top, sigmas[::-1], levels=levels, options=quiet)
        rounds.append((back - picture()).norm().item())
    assert rounds[1] < 1e-8 or rounds[0] / rounds[1] > 1.5, rounds
    assert rounds[1] < 0.1


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun"])
def test_from_the_picture_itself(levels: NoiseLevels, name: str) -> None:
    """sigma 0 has no model to ask: the first step is DDIM's, and with a fine start no worse than the others."""
    denoise = Gauss(levels)
    sigmas = [0.0, 0.002, 0.01, 0.03, 0.06, 0.1, *up(levels, 60)]
    got = invert(name, denoise, picture(), sigmas, levels=levels)
    expected = denoise.solution(picture(), 0.0, sigmas[-1])
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_callback_and_a_single_step(levels: NoiseLevels, mixture) -> None:
    seen: list[dict] = []
    sigmas = [0.0, 0.2, 0.5, 0.8]
    invert("heun", mixture, picture(), sigmas, levels=levels, callback=seen.append)
    assert [state["i"] for state in seen] == [0, 1, 2]
    assert [state["sigma"] for state in seen] == sigmas[:-1]
    for name in ("ddim", "heun"):
        one = invert(name, mixture, picture(), [0.0, 0.3], levels=levels)
        assert one.isfinite().all()


def test_the_callers_latent_is_left_alone(levels: NoiseLevels, mixture) -> None:
    x = picture()
    for name in ("ddim", "euler"):
        for sigmas in ([0.0, 0.2, 0.5], [0.1, 0.2, 0.5]):
            invert(name, mixture, x, sigmas, levels=levels)
    assert torch.equal(x, picture())


def test_schedules_turned_around_are_taken(levels: NoiseLevels, mixture) -> None:
    sigmas = schedule("normal", 12, levels)[::-1]
    assert all(a < b for a, b in pairwise(sigmas))
    for name in ("ddim", "dpmpp_2m", "heun"):
        assert invert(name, mixture, picture(), sigmas, levels=levels).isfinite().all()


@pytest.mark.parametrize(
    "sigmas", [[1.0, 0.5, 0.0], [0.1, 0.2, 0.2], [-0.1, 0.5], [0.1, math.nan], [0.1, math.inf]]
)
def test_sigmas_that_do_not_rise(levels: NoiseLevels, sigmas: list[float], mixture) -> None:
    with pytest.raises(OptionError, match=r"inversion: sigmas.*rising"):
        invert("ddim", mixture, picture(), sigmas, levels=levels)


def test_too_few_or_too_high_sigmas(make_mixture) -> None:
    flow = NoiseLevels.flow()
    with pytest.raises(OptionError, match="1 sigmas make no step"):
        invert("ddim", make_mixture(flow), picture(), [0.5], levels=flow)
    with pytest.raises(OptionError, match="up to 1"):
        invert("ddim", make_mixture(flow), picture(), [0.5, 1.5], levels=flow)
    assert invert("ddim", make_mixture(flow), picture(), [0.5, 1.0], levels=flow).isfinite().all()


@pytest.mark.parametrize("name", ["ddpm", "lcm"])
def test_only_deterministic_methods_are_inverted(name: str) -> None:
    with pytest.raises(OptionError, match=f"inversion by {name}.*deterministic"):
        inverse(name)


def test_an_inverse_has_no_noise_to_ask_for(levels: NoiseLevels, mixture) -> None:
    spec = inverse("euler_ancestral")
    assert not spec.stochastic
    assert "eta" not in {option.name for option in spec.options}
    same = [
        invert(name, mixture, picture(), [0.1, 0.3, 0.6], levels=levels)
        for name in ("euler_ancestral", "euler")
    ]
    torch.testing.assert_close(*same)
