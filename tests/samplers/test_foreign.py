"""Functions in k-diffusion's convention, the installed package's and a user's, driven like samplers of our own."""

from __future__ import annotations

import inspect
import math
import sys
import types
from functools import partial

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    SAMPLERS,
    ImageNoise,
    NoiseLevels,
    NonFiniteError,
    drive,
    k_diffusion,
    schedule,
    step_noise,
)
from sigmagraft.samplers import installed as package
from sigmagraft.samplers.foreign import find_method, of_function
from sigmagraft.samplers.guest import walk
from sigmagraft.samplers.model import KDiffusionModel, step_of

SHAPE = (4, 6, 6)
SEEDS = [7, 2**40 + 3]
SD = NoiseLevels.discrete()


def installed_names() -> list[str]:
    try:
        return sorted(package.functions())
    except OptionError:
        return []


NAMES = installed_names()
needs_it = pytest.mark.skipif(not NAMES, reason="k-diffusion is not installed")
# an error norm over the whole batch chooses the steps
WHOLE_BATCH = {"dpm_adaptive"}
SOLVED_IN_SIGMA = {"heun", "dpm_2", "dpm_2_ancestral", "lms"}


def way(levels: NoiseLevels, steps: int = 9) -> list[float]:
    """From the top, on flow from sigma 1, in even steps of sigma / alpha to the power 1 / 7."""
    if not levels.is_flow:
        return schedule("karras", steps, levels)
    ratios = schedule("karras", steps - 1, NoiseLevels.edm(0.02, 20.0))
    return [1.0, *(ratio / (1 + ratio) for ratio in ratios)]


def sampled(name, mixture, levels, seeds=SEEDS, steps=9, x=None, sigmas=None, **more):
    """A walk as the runner makes it: start noise and step noise of each image's seed."""
    spec = find_method(name)
    sigmas = sigmas or way(levels, steps)
    images = ImageNoise(seeds, SHAPE, dtype=torch.float64)
    x = images.next() * sigmas[0] if x is None else x
    noise = step_noise(spec, images, sigmas, levels)
    return walk(spec, mixture, x, sigmas, levels=levels, noise=noise, **more)


def options_of(name: str) -> dict[str, float]:
    """Noise on, where there is some."""
    spec = find_method(f"k_diffusion:{name}")
    if spec.noise_option == "s_churn":
        return {"s_churn": 5.0, "s_noise": 1.01}
    return {"eta": 0.8} if spec.noise_option else {}


@needs_it
@pytest.mark.parametrize("name", [name for name in NAMES if name in SAMPLERS and name != "dpm_fast"])
def test_theirs_equals_ours(name: str, levels: NoiseLevels, mixture) -> None:
    """Equal in the runner, noise included. dpm_fast is left out: theirs stops at the last sigma above 0."""
    ours = SAMPLERS[name]
    options = options_of(name)
    if levels.is_flow and name in SOLVED_IN_SIGMA:
        pytest.skip("theirs is solved in sigma / alpha, ours in sigma: equal orders, different errors")
    if levels.is_flow and "ancestral" in name:
        options = {"eta": 0.0}  # how much noise is put back differs on flow
    if not set(options) <= {option.name for option in ours.options} or ours.adaptive:
        pytest.skip("ours has other options")
    # from below sigma 1, where the first step would be the ODE's whatever the method
    sigmas = way(levels)[int(levels.is_flow) :]
    mine = sampled(name, mixture, levels, options=options, sigmas=sigmas)
    theirs = sampled(f"k_diffusion:{name}", mixture, levels, options=options, sigmas=sigmas)
    torch.testing.assert_close(theirs, mine, rtol=1e-6, atol=1e-6)


@needs_it
@pytest.mark.parametrize("name", NAMES)
def test_every_function_runs_and_repeats(name: str, levels: NoiseLevels, mixture) -> None:
    options = options_of(name)
    first, second = (sampled(f"k_diffusion:{name}", mixture, levels, options=options) for _ in range(2))
    assert torch.equal(first, second)
    assert first.isfinite().all()
    clean = sampled("heun", mixture, levels, steps=40)
    assert (first - clean).std() < 1.5 * clean.std()  # a picture of the data, not what the noise left


@needs_it
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE_BATCH])
def test_an_image_of_a_batch_is_the_image_alone(name: str, mixture, levels: NoiseLevels) -> None:
    options = options_of(name)
    batch = sampled(f"k_diffusion:{name}", mixture, levels, options=options)
    for k, seed in enumerate(SEEDS):
        alone = sampled(f"k_diffusion:{name}", mixture, levels, seeds=[seed], options=options)
        torch.testing.assert_close(alone[0], batch[k], rtol=1e-9, atol=1e-9)


@needs_it
@pytest.mark.parametrize("name", NAMES)
def test_nan_is_caught(name: str) -> None:
    def broken(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x * (math.nan if sigma < 1.0 else 0.5)

    with pytest.raises(NonFiniteError, match=r"step \d+ of 9, sigma"):
        sampled(f"k_diffusion:{name}", broken, SD)


@needs_it
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_told_once_and_in_order(name: str, levels: NoiseLevels, mixture) -> None:
    states: list[dict] = []
    sampled(f"k_diffusion:{name}", mixture, levels, callback=states.append)
    sigmas = way(levels)
    told = [state["i"] for state in states]
    assert told == (list(range(9)) if name not in ("dpm_fast", *WHOLE_BATCH) else sorted(set(told)))
    for state in states:
        assert (state["sigma"], state["sigma_next"]) == (sigmas[state["i"]], sigmas[state["i"] + 1])
        assert state["x"].shape == state["denoised"].shape == (2, *SHAPE)
    if name == "euler":  # x is the latent at that level, whatever variable it is solved in
        ours: list[dict] = []
        sampled("euler", mixture, levels, callback=ours.append)
        for mine, theirs in zip(ours, states, strict=True):
            torch.testing.assert_close(mine["x"], theirs["x"])


@needs_it
def test_the_callback_cancels() -> None:
    def stop(state: dict) -> None:
        if state["i"] == 2:
            raise KeyboardInterrupt

    generator = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        sampled("k_diffusion:euler", lambda x, s: x * 0.5, SD, callback=stop)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.overrides._len_torch_function_stack()


@needs_it
def test_options_and_names() -> None:
    spec = find_method("K-Diffusion:sample_dpmpp_2m_sde")
    assert (spec.name, spec.stochastic, spec.brownian) == ("k_diffusion:dpmpp_2m_sde", True, True)
    assert [option.name for option in spec.options] == ["eta", "s_noise", "solver_type"]
    with pytest.raises(OptionError, match=r"k-diffusion has no sampler 'dpmp_2m'.*'dpmpp_2m'"):
        find_method("k_diffusion:dpmp_2m")
    for options, message in (({"etta": 1}, "etta.*'eta'"), ({"eta": "much"}, "eta='much'.*a number")):
        with pytest.raises(OptionError, match=message):
            sampled("k_diffusion:dpmpp_2m_sde", lambda x, s: x * 0.5, SD, options=options)
    churned, plain = (
        sampled("k_diffusion:euler", lambda x, s: x / 2, SD, options=o) for o in ({"s_churn": "9"}, {})
    )
    assert not torch.equal(churned, plain)


def test_without_k_diffusion_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package._load.cache_clear()
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    with pytest.raises(OptionError, match=r"k-diffusion is not installed.*pip install"):
        find_method("k_diffusion:euler")
    package._load.cache_clear()


def test_a_hosts_own_k_diffusion_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    host = types.ModuleType("k_diffusion.sampling")
    host.sample_own = euler_of_a_user
    monkeypatch.setitem(sys.modules, "k_diffusion.sampling", host)
    assert find_method("k_diffusion:own").function is euler_of_a_user


@needs_it
def test_what_it_asks_for_besides_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = package.importlib.util.find_spec
    monkeypatch.setattr(
        package.importlib.util, "find_spec", lambda name: None if name in package._OPTIONAL else real(name)
    )
    for name in [name for name in sys.modules if name.split(".")[0] in package._OPTIONAL]:
        monkeypatch.delitem(sys.modules, name)
    package._load.cache_clear()
    try:
        assert sampled("k_diffusion:euler", lambda x, s: x * 0.5, SD).isfinite().all()
        with pytest.raises(OptionError, match="needs scipy"):
            sampled("k_diffusion:lms", lambda x, s: x * 0.5, SD)
    finally:
        package._load.cache_clear()


def euler_of_a_user(
    model, x, sigmas, extra_args=None, callback=None, disable=None, strength=1.0, mode="plain", twice=False
):
    """Somebody's sampler, which draws as it likes."""
    assert (type(strength), type(twice)) == (float, bool)
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
        d = (x - denoised) / sigmas[i]
        x += d * (sigmas[i + 1] - sigmas[i])  # in place, on a latent that is the caller's
        if mode == "noisy" and sigmas[i + 1] > 0:
            x = x + 0.1 * strength * sigmas[i + 1] * torch.randn_like(x)
    return x


def test_a_users_function(levels: NoiseLevels, mixture) -> None:
    """It gets the process's own sigmas: Euler's step in sigma is right on both."""
    x = ImageNoise(SEEDS, SHAPE, dtype=torch.float64).next() * levels.sigma_max
    kept, states = x.clone(), []
    end = sampled(euler_of_a_user, mixture, levels, x=x, callback=states.append)
    assert torch.equal(x, kept)
    torch.testing.assert_close(end, sampled("euler", mixture, levels, x=x), rtol=1e-9, atol=1e-9)
    assert [state["i"] for state in states] == list(range(9))  # it tells nobody; the model it was given does


def test_a_users_noise_is_that_of_each_image(mixture, levels: NoiseLevels) -> None:
    options = {"mode": "noisy", "strength": 2.0}
    batch = sampled(euler_of_a_user, mixture, levels, options=options)
    alone = sampled(euler_of_a_user, mixture, levels, seeds=SEEDS[1:], options=options)
    torch.testing.assert_close(alone[0], batch[1], rtol=1e-9, atol=1e-9)


def test_what_a_function_returns_must_be_a_finite_latent() -> None:
    with pytest.raises(OptionError, match=r"returned shape \(2, 6, 6\).*expected \(2, 4, 6, 6\)"):
        sampled(lambda model, x, sigmas: x[:, 0], lambda x, s: x, SD)
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteError, match="returned NaN or infinity"):
            sampled(lambda model, x, sigmas, bad=bad: x * bad, lambda x, s: x, SD)


def test_functions_that_cannot_be_used() -> None:
    def demanding(model, x, sigmas, magic):
        return x

    with pytest.raises(OptionError, match=r"demanding.*argument 'magic'.*functools.partial"):
        of_function(demanding)
    assert of_function(partial(demanding, magic=1)).options[0].default == 1
    with pytest.raises(OptionError, match="function in k-diffusion's convention"):
        find_method(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="returned NoneType"):
        sampled(lambda model, x, sigmas: None, lambda x, s: x, SD)
    with pytest.raises(OptionError, match="2 sigmas in one evaluation"):
        sampled(lambda model, x, sigmas: model(x, sigmas[:2]), lambda x, s: x, SD)


def test_every_sampler_of_ours_is_exported(mixture, levels: NoiseLevels) -> None:
    assert set(dir(k_diffusion)) == {f"sample_{spec.name}" for spec in SAMPLERS}
    assert k_diffusion.sample_heun is k_diffusion.sample_heun
    with pytest.raises(AttributeError, match="sample_huen"):
        k_diffusion.sample_huen  # noqa: B018
    sigmas = schedule("normal", 6, levels)
    model = KDiffusionModel(mixture, levels)
    x = torch.randn(2, 6, dtype=torch.float64) * sigmas[0]
    end = k_diffusion.sample_heun(model, x, torch.tensor(sigmas, dtype=torch.float64), disable=True)
    torch.testing.assert_close(end, drive("heun", mixture, x, sigmas, levels=levels))


@needs_it
def test_the_model_is_one_of_k_diffusion(k_diffusion: types.SimpleNamespace) -> None:
    """Its table, times and sigmas are those of k-diffusion's own wrapper around the same levels."""
    model = KDiffusionModel(lambda x, sigma: x, SD)
    theirs = k_diffusion.external.DiscreteSchedule(torch.tensor(SD.sigmas), quantize=False)
    sigmas = torch.logspace(-1.4, 1.1, 20)
    for name, given in (("sigma_to_t", sigmas), ("t_to_sigma", torch.linspace(0, 999, 20))):
        torch.testing.assert_close(
            getattr(model, name)(given), getattr(theirs, name)(given), rtol=1e-4, atol=1e-2
        )
    assert torch.equal(model.sigma_to_t(sigmas, quantize=True), theirs.sigma_to_t(sigmas, quantize=True))
    for n in (None, 7):
        torch.testing.assert_close(model.get_sigmas(n), theirs.get_sigmas(n), rtol=1e-4, atol=1e-4)
    assert model.inner_model.inner_model.sigma_max == theirs.sigma_max
    names = {
        name
        for name, value in vars(type(theirs)).items()
        if inspect.isroutine(value) or isinstance(value, property)
    }
    assert all(hasattr(model, name) for name in names if not name.startswith("__"))


@pytest.mark.parametrize(
    ("sigma", "step"),
    [(9.0, 0), (4.0, 0), (3.0, 0), (2.0, 1), (1.5, 1), (1.0, 2), (0.5, 2), (0.0, 2), (-1.0, 2)],
)
def test_which_step_a_sigma_lies_in(sigma: float, step: int) -> None:
    assert step_of([4.0, 2.0, 1.0, 0.0], sigma) == step
