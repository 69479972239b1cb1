"""Schedules, their options, own lists and SDXL's sizes: in requests, on the command line, inside pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SAMPLERS, SCHEDULES, NoiseLevels, schedule
from sigmagraft.standalone import metadata, prompt_run
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.encode import encode_prompts
from sigmagraft.standalone.model import Model, ModelInfo
from sigmagraft.standalone.pipeline import Pipeline
from sigmagraft.standalone.request import Request
from sigmagraft.standalone.size_settings import sizes_of
from sigmagraft.standalone.steps import fitted_options, sigmas_of
from sigmagraft.standalone.textrules import Sizes

from .small import small_model

SD = NoiseLevels.discrete()
FLOW = NoiseLevels.flow(3.0)
SD1, SDXL, REFINER = ModelInfo("sd1"), ModelInfo("sdxl"), ModelInfo("sdxl-refiner")


def walked(levels: NoiseLevels = SD, info: ModelInfo = SD1, **settings: Any) -> tuple[list[float], Request]:
    request = Request.of("x", {"size": (1024, 512), **settings})
    request.resolve(info, 8)
    return sigmas_of(request, SAMPLERS[str(request.sampler)], levels, info), request


def test_options_of_a_schedule() -> None:
    sigmas, request = walked(schedule="karras", steps=5, schedule_options={"rho": 3})
    assert sigmas == schedule("karras", 5, SD, rho=3)
    assert request.settings()["schedule_options"] == {"rho": 3}
    assert "schedule_options" not in walked(steps=5)[1].settings()
    with pytest.raises(OptionError, match=r"unknown option 'rh'.*'rho'"):
        walked(schedule="karras", schedule_options={"rh": 3})


def test_steps_left_out() -> None:
    assert walked(schedule="normal")[1].settings()["steps"] == 20
    with pytest.raises(OptionError, match="steps 0"):
        walked(steps=0)


def test_own_lists() -> None:
    sigmas, request = walked(sigmas=[14, 3, "1"])
    assert sigmas == [14.0, 3.0, 1.0, 0.0]
    settings = request.settings()
    assert (settings["sigmas"], settings["steps"], settings["schedule"]) == ([14.0, 3.0, 1.0], 3, None)
    assert walked(FLOW, timesteps=[1000, 500, 0])[0] == [1.0, 0.5, 0.0]
    sigmas, request = walked(timesteps=(999, 500), steps=2)
    assert sigmas == [SD.sigma_max, SD.sigmas[500], 0.0]
    assert walked(**{name: request.settings()[name] for name in ("timesteps", "steps")})[0] == sigmas


def test_strength_takes_the_last_part_of_a_list() -> None:
    image = Image.new("RGB", (64, 64))
    common = {"size": None, "image": image, "strength": 0.5}
    assert walked(sigmas=[14, 3, 2, 1], **common)[0] == [2.0, 1.0, 0.0]
    assert walked(schedule="beta@comfyui", steps=60, **common)[0][-1] == 0.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sigmas": [3, 1], "timesteps": [5]}, "sigmas and timesteps together"),
        ({"sigmas": [3, 1], "schedule": "karras"}, "sigmas and schedule together"),
        ({"sigmas": [3, 1], "schedule_options": {"rho": 2}}, "schedule_options with a list of sigmas"),
        ({"sigmas": [3, 1], "steps": 5}, "steps 5 with 2 steps"),
        ({"sigmas": "3,1"}, "list of numbers"),
        ({"sigmas": 3}, "list of numbers"),
        ({"sigmas": [1, 3]}, "rises"),
        ({"sigmas": [20, 3]}, r"sigma 20 is above the model's largest, 14\.6"),
        ({"timesteps": [2000]}, "timestep 2000"),
    ],
)
def test_lists_that_cannot_work(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        walked(**settings)


def test_what_the_model_and_the_picture_say() -> None:
    """The table of the family, the tokens of the size; what is given wins."""
    ays, flux = SCHEDULES["align_your_steps"], SCHEDULES["flux2"]
    assert fitted_options(ays, SDXL, (1024, 1024)) == {"table": "sdxl"}
    assert fitted_options(ays, REFINER, (1024, 1024)) == {"table": "sdxl"}
    assert fitted_options(ays, ModelInfo("sd2"), (1024, 1024)) == {"table": "sd1"}
    assert fitted_options(ays, ModelInfo("sdxl", prediction="edm", sigma_max=80.0), (64, 64)) == {}
    assert fitted_options(flux, SDXL, (1024, 512)) == {"tokens": 64 * 32}
    assert fitted_options(SCHEDULES["optimal_steps"], SDXL, (64, 64)) == {}
    expected = schedule("align_your_steps", 10, SD, table="sdxl")
    assert walked(info=SDXL, schedule="ays", steps=10)[0] == expected != schedule("ays", 10, SD)
    assert walked(info=SDXL, schedule="ays", steps=10, schedule_options={"table": "sd1"})[0] != expected
    assert walked(FLOW, schedule="flux2", steps=9)[0] == schedule("flux2", 9, FLOW, tokens=2048)


def test_sizes_reach_the_prompt_and_the_negative_one() -> None:
    given = {"original_size": (2048, 1024), "crop": (8, 16), "target_size": (1024, 1024)}
    request = walked(info=SDXL, **given)[1]
    for negative in (False, True):
        values = sizes_of(request, negative).values("target", (1024, 512), negative)
        assert values == [1024, 2048, 16, 8, 1024, 1024]
    assert {name: request.settings()[name] for name in given} == given
    request = walked(info=REFINER, aesthetic_score=7.5)[1]
    scores = [
        sizes_of(request, negative).values("aesthetic", (8, 16), negative)[-1] for negative in (False, True)
    ]
    assert scores == [7.5, 2.5]


def test_a_run_hands_the_sizes_to_both_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny SD1 model that says it is SDXL; what the encoder does with them is tested there."""
    seen = []

    def encode(model: Model, prompts: list[str], *, sizes: Sizes, **options: Any) -> Conditioning:
        seen.append(sizes)
        plain = replace(model, info=replace(model.info, family="sd1"))
        return encode_prompts(plain, prompts, **options)

    monkeypatch.setattr(prompt_run, "encode_prompts", encode)
    pipe = Pipeline(small_model(family="sdxl"))
    result = pipe("x", size=(64, 64), steps=1, crop=(8, 16), original_size=(128, 128), seed=1)
    assert seen == [Sizes((128, 128), (8, 16), None, None)] * 2
    assert (result.settings["crop"], result.settings["original_size"]) == ((8, 16), (128, 128))


@pytest.mark.parametrize(
    ("info", "settings", "told"),
    [
        (SD1, {"crop": (0, 0)}, "crop on a model of family sd1.*no size settings"),
        (SDXL, {"aesthetic_score": 5}, "aesthetic_score on a model of family sdxl.*target_size"),
        (REFINER, {"target_size": (8, 8)}, "target_size on a model of family sdxl-refiner"),
        (REFINER, {"aesthetic_score": 11}, "aesthetic_score 11.*0 to 10"),
        (SDXL, {"original_size": (0, 8)}, "original_size"),
        (SDXL, {"crop": (-1, 8)}, "crop"),
    ],
)
def test_sizes_that_cannot_work(info: ModelInfo, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        walked(info=info, **settings)


def told(schedule_type: str, more: str = "") -> metadata.Parameters:
    sampler = f"Sampler: DPM++ 2M, Schedule type: {schedule_type}"
    return metadata.from_text(f"a\nSteps: 20, {sampler}, CFG scale: 7, Seed: 1{more}, Version: v1.10.1")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Karras", "karras"),
        ("Beta", "beta@a1111"),
        ("KL Optimal", "kl_optimal@a1111"),
        ("DDIM", "ddim_uniform@comfyui"),
        ("Align Your Steps", "align_your_steps@a1111"),
        ("Align Your Steps GITS", "gits@forge"),
        ("Uniform", "normal"),
        ("Automatic", None),
    ],
)
def test_a1111s_names_mean_a1111s_schedules(label: str, name: str | None) -> None:
    assert told(label).settings.get("schedule") == name


def test_a1111s_schedule_options() -> None:
    read = told("Beta", ", Beta schedule alpha: 0.5, Schedule rho: 5")
    assert read.settings["schedule_options"] == {"alpha": 0.5}
    assert read.other == {"Schedule rho": "5"}
    assert told("Automatic", ", Schedule rho: 5").settings["schedule_options"] == {"rho": 5.0}
    ours = metadata.to_text({"prompt": "a", "steps": 5, "cfg": 7.0, "schedule_options": {"rho": 5.0}})
    assert "Schedule rho: 5" in ours
    assert metadata.from_text(ours).settings["schedule_options"] == {"rho": 5.0}
