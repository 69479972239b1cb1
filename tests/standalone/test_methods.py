"""The pipeline with functions of k-diffusion's convention as its sampler, and with CFG++ as its guidance."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, installed
from sigmagraft.standalone.pipeline import Pipeline, StepState

from .small import small_model

QUICK = {"steps": 4, "seed": 3, "cfg": 2.0}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(small_model())


@pytest.fixture
def k_diffusion() -> None:
    try:
        installed.sampling()
    except OptionError:
        pytest.skip("k-diffusion is not installed")


def users_euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i].expand(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = denoised + (x - denoised) * sigmas[i + 1] / sigmas[i]
    return x


@pytest.mark.usefixtures("k_diffusion")
@pytest.mark.parametrize(
    "name", ["euler", "heun", "dpmpp_2m", "euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde"]
)
def test_k_diffusions_picture_is_ours(pipe: Pipeline, name: str) -> None:
    common = {**QUICK, "batch": 2, "schedule": "karras"}
    ours = pipe("a circle", sampler=name, **common)
    theirs = pipe("a circle", sampler=f"k_diffusion:{name}", **common)
    torch.testing.assert_close(theirs.latents, ours.latents, rtol=1e-3, atol=1e-3)
    assert theirs.settings["sampler"] == f"k_diffusion:{name}"
    assert ours.settings["sampler"] == name


def test_a_users_function_as_sampler(pipe: Pipeline) -> None:
    states: list[StepState] = []
    mine = pipe("a circle", sampler=users_euler, schedule="normal", callback=states.append, **QUICK)
    ours = pipe("a circle", sampler="euler", schedule="normal", **QUICK)
    torch.testing.assert_close(mine.latents, ours.latents, rtol=1e-3, atol=1e-3)
    assert [state.index for state in states] == [0, 1, 2, 3]
    assert mine.settings["sampler"].endswith("users_euler")

    def stop(state: StepState) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe("a circle", sampler=users_euler, callback=stop, **QUICK)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", users_euler])
@pytest.mark.parametrize("steps", [1, 4])
def test_cfg_plus_plus(pipe: Pipeline, sampler, steps: int) -> None:
    common = {"steps": steps, "seed": 3, "sampler": sampler}
    plain = pipe("a circle", cfg=0.6, **common)
    made = pipe("a circle", guidance="cfg++", **common)
    assert (made.settings["guidance"], made.settings["cfg"]) == ("cfg++", 0.6)
    assert "guidance" not in plain.settings
    assert made.latents.isfinite().all()
    # in a single step to sigma 0 the two are one
    assert torch.allclose(made.latents, plain.latents, rtol=1e-3, atol=1e-3) == (steps == 1)


def test_at_scale_zero_it_is_the_negative_prompts_picture(pipe: Pipeline) -> None:
    empty = pipe("", steps=4, seed=3, cfg=1.0)
    made = pipe("a circle", negative="", steps=4, seed=3, cfg=0.0, guidance="cfg++")
    torch.testing.assert_close(made.latents, empty.latents, rtol=1e-3, atol=1e-3)


def test_outside_the_interval_the_prompt_is_evaluated_alone(pipe: Pipeline) -> None:
    images: list[int] = []
    hook = pipe.model.unet.register_forward_pre_hook(lambda module, args: images.append(len(args[0])))
    try:
        part = pipe("a circle", cfg_interval="25%-75%", **QUICK)
        assert images == [1, 2, 2, 1]
    finally:
        hook.remove()
    none = pipe("a circle", cfg_interval="0%-1%", **QUICK)
    whole = pipe("a circle", cfg_interval="0-1000", **QUICK)
    alone, plain = pipe("a circle", **{**QUICK, "cfg": 1.0}), pipe("a circle", **QUICK)
    torch.testing.assert_close(none.latents, alone.latents, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.latents, plain.latents, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(part.latents, plain.latents, rtol=1e-2, atol=1e-2)
    assert part.settings["cfg_interval"] == "25%-75%"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": "cfg++", "cfg": 7.0}, r"expected 0 to 3 with guidance cfg\+\+"),
        ({"guidance": "pak"}, "guidance 'pak'.*pag"),
        ({"cfg_interval": "9-1"}, "cfg_interval '9-1'"),
        ({"sampler": 7}, "sampler 7.*k-diffusion's convention"),
    ],
)
def test_bad_settings(pipe: Pipeline, settings: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipe("a", steps=2, **settings)


@pytest.mark.usefixtures("k_diffusion")
def test_an_adaptive_sampler_has_no_cfg_plus_plus(pipe: Pipeline) -> None:
    names = [spec.name for spec in SAMPLERS if spec.adaptive] + ["k_diffusion:dpm_adaptive"]
    for name in names:
        with pytest.raises(OptionError, match=r"cfg\+\+ needs to know the steps"):
            pipe("a", steps=2, sampler=name, guidance="cfg++")
