"""The loop: callbacks, errors, no reading back from the device, little arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import (
    SAMPLERS,
    ImageNoise,
    NoiseLevels,
    NonFiniteError,
    SamplerSpec,
    drive,
    schedule,
)
from sigmagraft.samplers.finite import FiniteWatch

SD = NoiseLevels.discrete()
SIGMAS = schedule("karras", 5, SD)
every = pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)


def walk(spec: SamplerSpec | str, denoise=None, x: torch.Tensor | None = None, **more):
    x = torch.ones(2, 4, 8, 8) if x is None else x
    more = {"levels": SD, "noise": lambda a, b: torch.ones_like(x), **more}
    return drive(spec, denoise or (lambda x, s: x * 0.5), x, more.pop("sigmas", SIGMAS), **more)


@every
def test_the_callers_latent_is_left_alone(spec: SamplerSpec) -> None:
    x = torch.randn(2, 4, 8, 8)
    kept = x.clone()
    outputs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def denoise(at: torch.Tensor, sigma: float) -> torch.Tensor:
        outputs.append((at * 0.5, at * 0.5))
        return outputs[-1][0]

    states: list[tuple[torch.Tensor, torch.Tensor]] = []
    end = walk(spec, denoise, x, callback=lambda d: states.append((d["x"], d["x"].clone())))
    assert torch.equal(x, kept)
    assert end.data_ptr() != x.data_ptr()
    for now, then in outputs + states:  # what a callback keeps stays what it was
        assert torch.equal(now, then)


@every
def test_callback_once_a_step(spec: SamplerSpec) -> None:
    seen: list[dict] = []
    walk(spec, callback=seen.append)
    assert [state["i"] for state in seen] == list(range(5))
    assert [state["sigma"] for state in seen] == SIGMAS[:-1]
    assert [state["sigma_next"] for state in seen] == SIGMAS[1:]


def test_an_exception_in_the_callback_cancels() -> None:
    def stop(state: dict) -> None:
        if state["i"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk("euler", callback=stop)


@every
def test_last_sigma_above_zero(spec: SamplerSpec) -> None:
    """A walk may stop early (a refiner goes on from there)."""
    assert walk(spec, sigmas=SIGMAS[:3]).isfinite().all()


@every
@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps(spec: SamplerSpec, steps: int, levels: NoiseLevels) -> None:
    sigmas = schedule("normal", steps, levels)
    end = walk(spec, lambda x, s: torch.full_like(x, 0.25), levels=levels, sigmas=sigmas)
    torch.testing.assert_close(end, torch.full_like(end, 0.25))


@pytest.mark.parametrize("spec", [s for s in SAMPLERS if not s.adaptive], ids=lambda spec: spec.name)
def test_nothing_is_read_back_from_the_device(spec: SamplerSpec, levels: NoiseLevels) -> None:
    """Meta tensors have no values: any `.item()`, comparison or copy to the host in a method would raise.

    An adaptive method must read; test_dpm_adaptive.py counts how often.
    """
    x = torch.ones(2, 4, 8, 8, device="meta")
    options = {spec.noise_option: 1.0} if spec.noise_option else {}
    end = walk(spec, x=x, levels=levels, sigmas=schedule("normal", 5, levels), options=options)
    assert end.shape == x.shape


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += "detach" not in func.name()
        return func(*args, **(kwargs or {}))


@every
def test_arithmetic_is_lean(spec: SamplerSpec) -> None:
    """At most five passes over the latent per evaluation, the check for NaN included, and one more an order above 2."""
    fixed = torch.zeros(2, 4, 8, 8)
    with Count() as count:
        walk(spec, lambda x, s: fixed, noise=lambda a, b: fixed, x=fixed)
    assert spec.adaptive or count.operations <= (5 + max(spec.order - 2, 0)) * spec.cost(5) + 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every
def test_non_finite_output_names_step_and_sigma(spec: SamplerSpec, bad: float) -> None:
    evaluated: list[float] = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        out = x * 0.5
        evaluated.append(sigma)
        if sigma <= SIGMAS[2]:
            out[1, 2, 3, 3] = bad
        return out

    with pytest.raises(NonFiniteError, match=r"NaN or infinity.*fp32") as caught:
        walk(spec, denoise)
    assert f"sigma {evaluated[-1]:.4g}:" in str(caught.value)
    # a two-stage method evaluates this sigma at the end of the step before, one of three stages looks further ahead;
    # one with levels of its own passes it
    steps = (1, 2, 3) if evaluated[-1] == SIGMAS[2] else (1, 2, 3, 4)
    assert any(f"step {n} of 5" in str(caught.value) for n in steps)


def test_on_an_accelerator_flags_are_read_once_at_the_end() -> None:
    watch = FiniteWatch(4, late=True)
    for step, value in enumerate([1.0, 2.0, math.nan, math.inf]):
        watch.see(torch.tensor([0.0, value]), step, 10.0 - step)
    with pytest.raises(NonFiniteError, match="step 3 of 4, sigma 8"):
        watch.finish()
    fine = FiniteWatch(1, late=True)
    fine.see(torch.zeros(3), 0, 1.0)
    fine.finish()


def test_large_half_precision_output_is_finite() -> None:
    """60000 * 512 overflows in half precision though every value is finite."""
    out = walk("euler", lambda x, s: torch.full_like(x, 60000.0), x=torch.ones(2, 4, 8, 8).half())
    assert out.dtype == torch.float16


def test_half_precision_output_is_taken_into_the_latents_dtype() -> None:
    assert walk("dpmpp_2m", lambda x, s: x.half()).dtype == torch.float32


def _returns_nothing(run, x):
    for sigma, _ in run.steps():
        x = yield x, sigma


def _yields_x_alone(run, x):
    yield x
    return x


def _yields_sigma_first(run, x):
    yield run.sigmas[0], x
    return x


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (_returns_nothing, r"returned NoneType.*`return x`"),
        (lambda run, x: x, r"returned Tensor \(expected a generator"),
        (_yields_x_alone, r"yielded Tensor \(expected \(x, sigma\)"),
        (_yields_sigma_first, r"yielded tuple \(expected \(x, sigma\)"),
    ],
)
def test_a_method_that_is_none_is_told_by_name(method, told: str) -> None:
    spec = SamplerSpec(name="mine", method=method, label="Mine", order=1)
    with pytest.raises(OptionError, match=f"sampler mine: its method {told}"):
        drive(spec, lambda x, sigma: x, torch.ones(1, 2), [3.0, 1.0, 0.0], levels=NoiseLevels.discrete())


def test_a_model_that_answers_nothing() -> None:
    with pytest.raises(OptionError, match="sampler euler: the model answered NoneType"):
        drive("euler", lambda x, sigma: None, torch.ones(1, 2), [3.0, 0.0], levels=NoiseLevels.discrete())  # type: ignore


def test_wrong_shape_from_the_model() -> None:
    with pytest.raises(OptionError, match=r"shape \(2, 8, 8, 8\).*\(2, 4, 8, 8\)"):
        walk("euler", lambda x, s: torch.cat([x, x], dim=1))


def test_missing_noise_source() -> None:
    with pytest.raises(OptionError, match="no noise source"):
        walk("euler_ancestral", noise=None)
    walk("euler_ancestral", noise=None, options={"eta": 0.0})


@every
def test_options_are_checked(spec: SamplerSpec) -> None:
    for option in spec.options:
        walk(spec, options={option.name: option.default})
        walk(spec, options={option.name: str(option.default)})
        bad = ["much", None, True] if option.choices else [option.low - 1, math.nan, "much", None, True]
        for value in bad:
            with pytest.raises(OptionError, match=rf"sampler {spec.name}: option {option.name}="):
                walk(spec, options={option.name: value})
    with pytest.raises(OptionError, match=r"unknown option 'no_such'"):
        walk(spec, options={"no_such": 1})


@every
def test_declarations_are_complete(spec: SamplerSpec) -> None:
    assert spec.label
    assert spec.method.__doc__
    assert all(option.help for option in spec.options)
    assert spec.noise_option is None or spec.noise_option in {option.name for option in spec.options}
    assert schedule(spec.default_schedule, 5, SD)


@pytest.mark.parametrize(
    ("name", "found"),
    [("Euler a", "euler_ancestral"), ("DPM++ 2M", "dpmpp_2m"), ("k_euler", "euler"), ("DDIM", "ddim")],
)
def test_labels_and_aliases_are_found(name: str, found: str) -> None:
    assert SAMPLERS[name].name == found


@every
def test_label_finds_its_sampler(spec: SamplerSpec) -> None:
    assert SAMPLERS[spec.label] is spec


def test_unknown_sampler_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown sampler 'dpmp_2m'.*'dpmpp_2m'"):
        walk("dpmp_2m")


def test_same_seed_same_picture() -> None:
    ends = []
    for _ in range(2):
        noise = ImageNoise([1, 2], (4, 8, 8))
        ends.append(walk("euler_ancestral", x=noise.next() * SIGMAS[0], noise=noise))
    assert torch.equal(*ends)
