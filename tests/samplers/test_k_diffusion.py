"""Equal to k-diffusion's own functions, in its own calling convention."""

from __future__ import annotations

import functools
import inspect
import math
import types

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    SAMPLERS,
    NoiseLevels,
    SamplerSpec,
    k_diffusion_function,
    levels_of_model,
    schedule,
)

LEVELS = NoiseLevels.discrete()
FUNCTIONS = {spec.name: k_diffusion_function(spec) for spec in SAMPLERS}


class Model:
    """A model in k-diffusion's convention: sigma comes as a tensor [b]."""

    def __init__(self, denoise) -> None:
        self.denoise = denoise
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, bias: float = 0.0) -> torch.Tensor:
        assert sigma.shape == (len(x),)
        self.seen.append(sigma)
        return self.denoise(x, sigma[0].item()) + bias


def white(function, x: torch.Tensor) -> dict:
    """The same white noise for both: where k-diffusion's default is an unseeded Brownian tree."""
    takes = "noise_sampler" in inspect.signature(function).parameters
    return {"noise_sampler": lambda sigma, sigma_next: torch.randn_like(x)} if takes else {}


def theirs(k_diffusion: types.SimpleNamespace, spec: SamplerSpec):
    function = getattr(k_diffusion.sampling, f"sample_{spec.name}", None)
    if function is None:
        pytest.skip(f"k-diffusion has no {spec.name}")
    return over_sigmas(function) if ranged(function) else function


def ranged(function) -> bool:
    """dpm_fast and dpm_adaptive take the ends of the walk, both above 0."""
    return "sigma_min" in inspect.signature(function).parameters


def over_sigmas(function):
    """Such a function called with sigmas; its own levels are tensors of torch's default dtype."""

    @functools.wraps(function)
    def sample(model, x: torch.Tensor, sigmas: torch.Tensor, *args, **more) -> torch.Tensor:
        count = {"n": len(sigmas) - 1} if "n" in inspect.signature(function).parameters else {}
        before = torch.get_default_dtype()
        torch.set_default_dtype(x.dtype)
        try:
            return function(model, x, sigmas[-1].item(), sigmas[0].item(), *count.values(), *args, **more)
        finally:
            torch.set_default_dtype(before)

    return sample


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize(
    ("spec", "noisy"),
    [(spec, False) for spec in SAMPLERS] + [(spec, True) for spec in SAMPLERS if spec.noise_option],
    ids=lambda value: value.name if isinstance(value, SamplerSpec) else "noisy" if value else "default",
)
def test_equal_to_k_diffusion(k_diffusion, make_mixture, spec, dtype, tolerance, noisy) -> None:
    function, model = theirs(k_diffusion, spec), Model(make_mixture(LEVELS))
    options = {}
    if noisy:
        options = {spec.noise_option: 6.0 if spec.noise_option == "s_churn" else 0.7, "s_noise": 1.01}
    sigmas = torch.tensor(schedule("karras", 12, LEVELS), dtype=dtype)
    sigmas = sigmas[:-1] if ranged(function) else sigmas
    x = torch.randn(3, 6, dtype=dtype, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    ends = []
    for sample in (function, FUNCTIONS[spec.name]):
        torch.manual_seed(5)
        noise = white(function, x)
        ends.append(sample(model, x.clone(), sigmas, {"bias": 0.01}, disable=True, **noise, **options))
    assert ends[1].dtype == dtype
    if spec.adaptive and dtype == torch.float32:
        tolerance = 1e-2  # the error of a first short step is rounding, and moves all later steps
    torch.testing.assert_close(ends[1], ends[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_callback_has_k_diffusions_keys(k_diffusion, make_mixture, spec) -> None:
    function, model = theirs(k_diffusion, spec), Model(make_mixture(LEVELS))
    if ranged(function):
        pytest.skip("theirs tells of its own steps, ours of the schedule's")
    sigmas = torch.tensor(schedule("normal", 5, LEVELS), dtype=torch.float64)
    x = torch.randn(2, 6, dtype=torch.float64) * sigmas[0]
    seen: list[list[dict]] = []
    for sample in (function, FUNCTIONS[spec.name]):
        torch.manual_seed(5)
        seen.append([])
        sample(model, x, sigmas, callback=seen[-1].append, disable=True, **white(function, x))
    assert len(seen[0]) == len(seen[1]) == 5
    for expected, got in zip(*seen, strict=True):
        assert expected.keys() <= got.keys()
        assert got["i"] == expected["i"]
        for key in ("sigma", "sigma_hat"):
            assert got[key] == pytest.approx(expected[key].item(), rel=1e-12)
        for key in ("x", "denoised"):
            torch.testing.assert_close(got[key], expected[key], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_signature_is_what_hosts_read(spec: SamplerSpec) -> None:
    function = FUNCTIONS[spec.name]
    names = list(inspect.signature(function).parameters)
    assert function.__name__ == f"sample_{spec.name}"
    fixed = ["model", "x", "sigmas", "extra_args", "callback", "disable", "noise_sampler"]
    assert names == [*fixed, *(option.name for option in spec.options)]
    defaults = {option.name: option.default for option in spec.options}
    assert {n: inspect.signature(function).parameters[n].default for n in defaults} == defaults


def test_noise_sampler_is_asked_with_both_sigmas(make_mixture) -> None:
    asked = []

    def noise_sampler(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        asked.append((float(sigma), float(sigma_next)))
        return torch.zeros(1, 6)

    sigmas = torch.tensor([5.0, 2.0, 1.0, 0.0])
    FUNCTIONS["euler_ancestral"](
        Model(make_mixture(LEVELS)), torch.ones(1, 6), sigmas, noise_sampler=noise_sampler
    )
    assert asked == [(5.0, 2.0), (2.0, 1.0)]


def test_the_models_own_levels_decide_the_process() -> None:
    flow = NoiseLevels.flow()
    model = types.SimpleNamespace(levels=flow)
    assert levels_of_model(model, [1.0, 0.5]) is flow
    guessed = levels_of_model(object(), [5.0, 1.0, 0.0])
    assert not guessed.is_flow
    assert guessed.half_log_snr(2.0) == -math.log(2.0)


def test_unknown_option_is_refused(make_mixture) -> None:
    with pytest.raises(OptionError, match=r"s_churm.*s_churn"):
        FUNCTIONS["euler"](
            Model(make_mixture(LEVELS)), torch.ones(1, 6), torch.tensor([1.0, 0.0]), s_churm=1.0
        )


def test_timestep_is_k_diffusions_sigma_to_t(k_diffusion) -> None:
    table = torch.tensor(LEVELS.sigmas, dtype=torch.float64)
    schedule_of = k_diffusion.external.DiscreteSchedule(table, quantize=False)
    sigmas = torch.logspace(-2.0, 1.4, 200, dtype=torch.float64)
    expected = schedule_of.sigma_to_t(sigmas).tolist()
    assert [LEVELS.timestep(sigma) for sigma in sigmas.tolist()] == pytest.approx(expected, abs=1e-8)
    times = torch.linspace(0, 999, 77)
    expected = schedule_of.t_to_sigma(times).tolist()
    assert [LEVELS.sigma(t) for t in times.tolist()] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["karras", "exponential", "polyexponential"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("rho", [None, 2.0])
def test_schedules_are_k_diffusions(k_diffusion, name: str, steps: int, rho: float | None) -> None:
    options = {} if rho is None or name == "exponential" else {"rho": rho}
    function = getattr(k_diffusion.sampling, f"get_sigmas_{name}")
    expected = function(steps, LEVELS.sigma_min, LEVELS.sigma_max, **options).tolist()
    assert schedule(name, steps, LEVELS, **options) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_normal_is_the_models_get_sigmas(k_diffusion, steps: int) -> None:
    table = torch.tensor(LEVELS.sigmas, dtype=torch.float64)
    expected = k_diffusion.external.DiscreteSchedule(table, quantize=False).get_sigmas(steps).tolist()
    assert schedule("normal", steps, LEVELS) == pytest.approx(expected, rel=1e-4)
