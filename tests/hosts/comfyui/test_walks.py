"""Samplers and schedules inside the double give what they give alone; noise, flow, cancelling, restarts, CFG++."""

from __future__ import annotations

import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.comfyui.function import Choice, Seeds, sampler_function, sampler_object
from sigmagraft.hosts.comfyui.guidance_nodes import IntervalNode, PlusPlusNode
from sigmagraft.hosts.comfyui.levels import sampling_levels
from sigmagraft.hosts.comfyui.registry import schedule_function
from sigmagraft.hosts.comfyui.restart_nodes import RestartNode
from sigmagraft.hosts.noise import image_seeds, seeded_noise
from sigmagraft.hosts.offers import SamplerOffer, ScheduleOffer
from sigmagraft.samplers import (
    NOISE_TYPES,
    SAMPLERS,
    SCHEDULES,
    ImageNoise,
    NoiseLevels,
    drive,
    restart,
    schedule,
    step_noise,
)
from sigmagraft.samplers.guidance_weight import plus_plus

from . import double

pytestmark = pytest.mark.usefixtures("host")
SHAPE, SEED = (2, 4, 6, 5), 41
EPS, SD3 = double.Discrete(), double.Flow(3.0)
MODELS = {"eps": (EPS, NoiseLevels.discrete()), "flow": (SD3, NoiseLevels.flow(3.0))}


def denoised(sampling: Any, positive: bool = True):
    """D of data N(m, v) under x = alpha x0 + sigma noise, in floats of the sigma."""

    def predict(x: Tensor, sigma: float) -> Tensor:
        alpha = 1 - sigma if isinstance(sampling, double.CONST) else 1.0
        mean, variance = (0.5, 0.25) if positive else (-0.25, 1.0)
        return mean + alpha * variance * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

    return predict


def patcher(sampling: Any) -> double.Patcher:
    def predict(x: Tensor, sigma: Tensor, positive: bool) -> Tensor:
        assert sigma.shape == (len(x),)
        return denoised(sampling, positive)(x, float(sigma[0]))

    return double.Patcher(sampling, predict)


def own(name: str, **options: Any) -> double.KSAMPLER:
    spec = SAMPLERS[name]
    return sampler_object(sampler_function(Choice(SamplerOffer(name, spec.label, spec), options)))


def start_noise(shape: tuple[int, ...] = SHAPE, seed: int = SEED) -> Tensor:
    """The host's: one generator for the whole batch."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inside(
    sampler: Any,
    sampling: Any,
    sigmas: list[float],
    cfg: float = 1.0,
    seed: Any = SEED,
    shape=SHAPE,
    model=None,
):
    guider = double.Guider(model or patcher(sampling), cfg)
    told = torch.tensor(sigmas)
    kept = told.clone()
    end = guider.sample(start_noise(shape), torch.zeros(shape), sampler, told, seed)
    assert torch.equal(told, kept), "the host's sigmas were written to"
    return end, guider


def alone(name: str, kind: str, sigmas: list[float], shape=SHAPE, **options: Any) -> Tensor:
    sampling, levels = MODELS[kind]
    spec = SAMPLERS[name]
    noise = step_noise(
        spec, ImageNoise([SEED + k for k in range(shape[0])], shape[1:], skip=1), sigmas, levels
    )
    x = sampling.noise_scaling(sigmas[0], start_noise(shape), torch.zeros(shape))
    return drive(spec, denoised(sampling), x, sigmas, levels=levels, noise=noise, options=options)


def sigmas_for(kind: str, steps: int = 5) -> list[float]:
    values = schedule("simple", steps, MODELS[kind][1])
    return torch.tensor(values).tolist()  # as float32 carries them


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_inside_as_alone(name: str, kind: str) -> None:
    sigmas = sigmas_for(kind)
    end, guider = inside(own(name), MODELS[kind][0], sigmas)
    assert torch.allclose(end, alone(name, kind, sigmas), rtol=1e-4, atol=1e-4)
    if not SAMPLERS[name].adaptive:
        assert guider.told == sorted(set(guider.told))
        assert guider.told[0] == 0


@pytest.mark.parametrize("shape", [(2, 1, 40), (2, 4, 3, 6, 5)], ids=["packed", "video"])
@pytest.mark.parametrize("name", ["tcd", "dpmpp_2m_sde", "rk4_4s", "restart"])
def test_latents_without_and_with_more_dimensions(name: str, shape: tuple[int, ...]) -> None:
    sigmas = sigmas_for("flow")
    end, _ = inside(own(name), SD3, sigmas, shape=shape)
    assert torch.allclose(end, alone(name, "flow", sigmas, shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", NOISE_TYPES, ids=lambda noise: noise.name)
def test_noise_that_needs_places_says_so(noise) -> None:
    spec = SAMPLERS["tcd"]
    sampler = sampler_object(sampler_function(Choice(SamplerOffer("tcd", "TCD", spec), {}, noise.name)))
    if noise.spatial:
        with pytest.raises(OptionError, match=f"{noise.name} on a latent of 3 dimensions"):
            inside(sampler, SD3, sigmas_for("flow"), shape=(1, 1, 64))
    else:
        inside(sampler, SD3, sigmas_for("flow"), shape=(1, 1, 64))
    inside(sampler, SD3, sigmas_for("flow"), shape=(1, 4, 8, 8))


def test_image_k_gets_the_noise_of_its_seed_alone() -> None:
    drawn = start_noise()
    sampler = own("dpmpp_2m_sde")
    model = patcher(EPS)
    sigmas = torch.tensor(sigmas_for("eps"))
    together = double.Guider(model).sample(drawn, torch.zeros(SHAPE), sampler, sigmas, SEED)
    second = double.Guider(model).sample(drawn[1:], torch.zeros(1, *SHAPE[1:]), sampler, sigmas, SEED + 1)
    assert torch.equal(together[1:], second)


def test_the_seeds_of_a_noise_node_reach_the_steps() -> None:
    sampler, sigmas = own("euler_ancestral"), torch.tensor(sigmas_for("eps"))
    guider = double.Guider(patcher(EPS))
    drawn, empty = start_noise(), torch.zeros(SHAPE)
    plain = guider.sample(drawn, empty, sampler, sigmas, 7)
    told = guider.sample(drawn, empty, sampler, sigmas, Seeds.of(7, (7, 99)))
    other = guider.sample(drawn[1:], empty[1:], sampler, sigmas, 99)
    assert torch.equal(told[0], plain[0])
    assert torch.equal(told[1:], other)


@pytest.mark.parametrize("name", [spec.name for spec in SAMPLERS if spec.stochastic])
def test_step_noise_is_not_the_start_noise(name: str) -> None:
    """On the CPU some versions of the host give ancestral samplers the start noise once more."""
    drawn: list[Tensor] = []
    spec = SAMPLERS[name]

    def spy(model: Any, x: Tensor, sigmas: Tensor, **rest: Any) -> Tensor:
        levels = NoiseLevels.discrete()
        source = seeded_noise(spec, x, image_seeds(SEED, len(x)), sigmas.tolist(), levels)
        drawn.append(source(float(sigmas[0]), float(sigmas[1])))
        return x

    shape = (1, 4, 16, 16)
    double.Guider(patcher(EPS)).sample(
        start_noise(shape), torch.zeros(shape), double.KSAMPLER(spy, {}), torch.tensor([3.0, 1.0]), SEED
    )
    (noise,) = drawn
    both = torch.stack([noise.flatten(), start_noise(shape).flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 5 / math.sqrt(noise.numel())


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "lcm", "tcd"])
def test_noise_scale_of_the_model_scales_the_steps_noise(name: str) -> None:
    """x + c noise is linear in the noise on a linear model: twice the scale, twice the difference to none."""
    shape = (1, 4, 4, 4)
    sigmas = sigmas_for("flow", 3)
    ends = []
    for scale in (0.0, 1.0, 2.0):
        sampling = double.Flow(3.0, noise_scale=scale)
        guider = double.Guider(patcher(sampling))
        x = torch.zeros(shape)
        # the same start for all: the double scales it too, so it is taken as 0
        ends.append(guider.sample(x, x, own(name), torch.tensor(sigmas), SEED))
    assert not torch.allclose(ends[1], ends[0])
    assert torch.allclose(ends[2] - ends[0], 2 * (ends[1] - ends[0]), rtol=1e-3, atol=1e-5)


LEVELS = {
    "sd": (double.Discrete(), NoiseLevels.discrete()),
    "sd3": (double.Flow(3.0), NoiseLevels.flow(3.0)),
    "flux": (double.Flow(math.exp(1.15), log_shift=True), NoiseLevels.flow(math.exp(1.15))),
    "edm": (double.ModelSamplingContinuousEDM(), NoiseLevels.edm(0.002, 120.0, 1.0)),
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_schedules_are_those_of_the_model(spec, kind: str) -> None:
    sampling, levels = LEVELS[kind]
    handler = schedule_function(ScheduleOffer(spec.base, spec.label, spec))
    if not spec.needs.serves(levels):
        with pytest.raises(OptionError, match="cannot serve this model"):
            handler(sampling, 10)
        return
    given = handler(sampling, 10)
    assert given.dtype == torch.float32
    assert given.device.type == "cpu"
    assert torch.allclose(given, torch.tensor(schedule(spec, 10, levels)), rtol=2e-4, atol=1e-5)


def test_continuous_v_is_even_in_its_own_time() -> None:
    sampling = double.ModelSamplingContinuousV(0.1, 100.0)
    levels = sampling_levels(sampling)
    middle = (levels.time(levels.sigma_min) + levels.time(levels.sigma_max)) / 2
    expected = math.tan((math.atan(0.1) + math.atan(100.0)) / 2)
    assert levels.sigma_at(middle) == pytest.approx(expected, rel=1e-3)


def test_a_table_that_stands_still_at_its_ends() -> None:
    """Stable Cascade's."""
    sampling = double.Discrete()
    sampling.sigmas = sampling.sigmas.clamp(0.1, 10.0)
    levels = sampling_levels(sampling)
    assert (levels.sigma_min, levels.sigma_max) == pytest.approx((0.1, 10.0), rel=1e-5)
    assert not levels.is_flow


def test_flow_is_told_by_the_range_too() -> None:
    """The host has a model that is CONST and has the sigmas of SD."""

    class Both(double.CONST, double.Discrete):
        pass

    assert not sampling_levels(Both()).is_flow


@pytest.mark.parametrize("name", ["tcd", "dormand_prince_13s", "dpm_adaptive"])
def test_cancelling_stops_before_the_next_evaluation(host: dict[str, ModuleType], name: str) -> None:
    management = host["comfy.model_management"]
    model = patcher(EPS)
    asked = []

    def predict(x: Tensor, sigma: Tensor, positive: bool) -> Tensor:
        asked.append(float(sigma[0]))
        management.cancelled = len(asked) == 3
        return denoised(EPS)(x, float(sigma[0]))

    model.predict = predict
    with pytest.raises(double.Interrupted):
        inside(own(name), EPS, sigmas_for("eps"), model=model)
    assert len(asked) == 3


@pytest.mark.parametrize("sigmas", [[], [2.0]], ids=["none", "one"])
def test_fewer_than_two_sigmas_make_no_step(sigmas: list[float]) -> None:
    x = start_noise()
    walked = own("tcd").sampler_function(
        double._Model(lambda *a, **k: x, double.Guider(patcher(EPS))), x, torch.tensor(sigmas), extra_args={}
    )
    assert walked is x


def test_options_out_of_range_name_the_range() -> None:
    with pytest.raises(OptionError, match=r"gamma=2.*from 0 to 1"):
        inside(own("tcd", gamma=2.0), EPS, sigmas_for("eps"))


# restarts

RESTARTS = "2, 2, 0.3, 2"


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["heun", "dpmpp_2m"])
def test_restart_around_ours_is_ours(name: str, kind: str) -> None:
    sampling, levels = MODELS[kind]
    sigmas = sigmas_for(kind, 10)
    (sampler,) = RestartNode().make(own(name), RESTARTS, 0.9)
    end, guider = inside(sampler, sampling, sigmas)
    spec = restart(name, [(2, 2, 0.3, 2.0)])
    noise = step_noise(spec, ImageNoise([SEED, SEED + 1], SHAPE[1:], skip=1), sigmas, levels)
    x = sampling.noise_scaling(sigmas[0], start_noise(), torch.zeros(SHAPE))
    expected = drive(
        spec, denoised(sampling), x, sigmas, levels=levels, noise=noise, options={"s_noise": 0.9}
    )
    assert torch.allclose(end, expected, rtol=1e-4, atol=1e-4)
    assert guider.told == list(range(10))


def test_restart_around_the_hosts_own(host: dict[str, ModuleType]) -> None:
    """Walk by walk, with counts that go on; s_noise 0 is the host's sampler alone."""
    native = double.KSAMPLER(host["comfy.k_diffusion.sampling"].sample_euler, {}, {})
    sigmas = sigmas_for("eps", 10)
    (sampler,) = RestartNode().make(native, RESTARTS, 1.0)
    end, guider = inside(sampler, EPS, sigmas)
    assert guider.told == list(range(10))
    visited = [sigma for sigma, _ in guider.asked]
    assert sum(b > a for a, b in pairwise(visited)) == 2
    (still,) = RestartNode().make(native, RESTARTS, 0.0)
    assert torch.equal(inside(still, EPS, sigmas)[0], inside(native, EPS, sigmas)[0])
    assert not torch.allclose(end, inside(native, EPS, sigmas)[0])


def test_restart_around_a_stochastic_one_draws_anew_in_each_walk() -> None:
    (sampler,) = RestartNode().make(own("euler_ancestral"), "2, 2, 0.3, 2", 1.0)
    seeds = []
    inner = sampler.sampler_function.function

    def spy(*args: Any, **named: Any) -> Tensor:
        seeds.append(int(named["extra_args"]["seed"]))
        return inner(*args, **named)

    sampler.sampler_function.function = spy
    inside(sampler, EPS, sigmas_for("eps", 10))
    assert seeds[0] == SEED
    assert len(set(seeds)) == len(seeds) == 4


def test_restart_needs_a_function() -> None:
    class Foreign:
        pass

    with pytest.raises(OptionError, match="Foreign"):
        RestartNode().make(Foreign(), "", 1.0)


# guidance


def expected_pp(name: str, kind: str, sigmas: list[float], scale: float) -> Tensor:
    sampling, levels = MODELS[kind]
    weight = plus_plus(scale, SAMPLERS[name], sigmas, levels)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        cond, uncond = (denoised(sampling, positive)(x, sigma) for positive in (True, False))
        return uncond + weight(sigma) * (cond - uncond)

    x = sampling.noise_scaling(sigmas[0], start_noise(), torch.zeros(SHAPE))
    return drive(SAMPLERS[name], denoise, x, sigmas, levels=levels)


@pytest.mark.parametrize("cfg", [1.0, 7.0])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["euler", "dpmpp_3m"])
def test_cfg_pp_takes_the_place_of_cfg(name: str, kind: str, cfg: float) -> None:
    (model,) = PlusPlusNode().make(patcher(MODELS[kind][0]), 0.6)
    sigmas = sigmas_for(kind)
    end, guider = inside(own(name), MODELS[kind][0], sigmas, cfg, model=model)
    assert torch.allclose(end, expected_pp(name, kind, sigmas, 0.6), rtol=1e-4, atol=1e-4)
    assert guider.cfg == cfg


def test_cfg_pp_with_the_hosts_euler_is_the_papers_step() -> None:
    native = double.KSAMPLER(double._native("euler"), {}, {})
    (model,) = PlusPlusNode().make(patcher(EPS), 0.6)
    sigmas = sigmas_for("eps")
    end, _ = inside(native, EPS, sigmas, 7.0, model=model)
    x = EPS.noise_scaling(sigmas[0], start_noise(), torch.zeros(SHAPE))
    for sigma, sigma_next in pairwise(sigmas):
        cond, uncond = (denoised(EPS, positive)(x, sigma) for positive in (True, False))
        x = uncond + 0.6 * (cond - uncond) + sigma_next * (x - uncond) / sigma
    assert torch.allclose(end, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("sampler", "sampling", "negative", "message"),
    [
        ("unknown", EPS, True, "CFG\\+\\+ with sampler unknown"),
        ("dpmpp_2m", SD3, True, "CFG\\+\\+ with sampler dpmpp_2m"),
        ("euler", EPS, False, "without a negative prompt"),
    ],
)
def test_cfg_pp_says_what_it_cannot(sampler: str, sampling: Any, negative: bool, message: str) -> None:
    (model,) = PlusPlusNode().make(patcher(sampling), 0.6)
    guider = double.Guider(model, 7.0, negative)
    sigmas = torch.tensor(sigmas_for("eps" if sampling is EPS else "flow"))
    with pytest.raises(OptionError, match=message):
        guider.sample(
            start_noise(), torch.zeros(SHAPE), double.KSAMPLER(double._native(sampler), {}, {}), sigmas, 1
        )


@pytest.mark.parametrize("pp_first", [True, False])
def test_an_interval_also_around_cfg_pp(pp_first: bool) -> None:
    nodes = [lambda m: PlusPlusNode().make(m, 0.6)[0], lambda m: IntervalNode().make(m, "40%-80%")[0]]
    model = patcher(EPS)
    for node in nodes if pp_first else reversed(nodes):
        model = node(model)
    _, guider = inside(own("euler"), EPS, sigmas_for("eps"), 7.0, model=model)
    pulls = [cfg for _, cfg in guider.asked]
    assert pulls[0] == pulls[1] == pulls[4] == 1.0
    assert 0.6 < pulls[2] < pulls[3] or 0.6 < pulls[3] < pulls[2]


def test_an_interval_alone_keeps_the_cfg_inside() -> None:
    (model,) = IntervalNode().make(patcher(EPS), "1-10")
    _, guider = inside(own("euler"), EPS, sigmas_for("eps", 8), 6.0, model=model)
    assert {cfg for sigma, cfg in guider.asked if 1 <= sigma <= 10} == {6.0}
    assert {cfg for sigma, cfg in guider.asked if not 1 <= sigma <= 10} == {1.0}
    assert guider.cfg == 6.0
