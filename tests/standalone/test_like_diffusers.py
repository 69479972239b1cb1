"""`like="diffusers"`: the final latents are those of diffusers' own pipeline, with each scheduler class both have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sigmagraft.standalone.course_diffusers import CLASSES, PUBLISHED
from sigmagraft.standalone.pipeline import Pipeline

from . import families
from .test_tokens import write_folder

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

PROMPT, NEGATIVE, SEED = "a red (circle:1.3) on [snow] BREAK at dawn", "blurry", 11
LONG = "one two three four five " * 20
# samplers of ours whose class does not give numbers with the published config, and why
BROKEN = {
    "uni_pc": "its last step, by bh1 to sigma 0, is NaN",
    "dpmpp_3m_sde": "the second difference of its SDE step of order 3 has the wrong sign",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SD1 with CLIP's whole vocabulary."""
    root = tmp_path_factory.mktemp("sd1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "VOCAB", 49408)
        made = families.write("sd1", root).folder
    (made / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **PUBLISHED["sd1"]})
    )
    write_folder(root / "clip")
    return made


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    clip = transformers.CLIPTokenizerFast.from_pretrained(folder.parent.parent / folder.parent.name / "clip")
    clip.model_max_length = 77
    pipe = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=transformers.CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=clip,
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=diffusers.PNDMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ours(folder: Path) -> Pipeline:
    return Pipeline.load(folder, device="cpu", dtype="fp32")


def reference(pipe: Any, sampler: str, config: dict[str, Any] | None = None, **asked: Any) -> torch.Tensor:
    name, changes = CLASSES[sampler]
    more = {"noise_sampler_seed": SEED} if sampler == "dpmpp_sde" else {}
    published = dict(diffusers.PNDMScheduler.load_config(PUBLISHED_AT[0]))
    pipe.scheduler = getattr(diffusers, name).from_config(published, **changes, **more, **(config or {}))
    settings = {"num_inference_steps": 6, "guidance_scale": 5.0, "height": 64, "width": 64, **asked}
    prompt, negative = settings.pop("prompt", PROMPT), settings.pop("negative_prompt", NEGATIVE)
    generator = torch.Generator().manual_seed(SEED)
    return pipe(
        prompt, negative_prompt=negative, generator=generator, output_type="latent", **settings
    ).images


PUBLISHED_AT: list[Path] = []


@pytest.fixture(autouse=True)
def _published(folder: Path) -> None:
    PUBLISHED_AT[:] = [folder / "scheduler"]


def drawn(pipe: Pipeline, sampler: str, **asked: Any) -> torch.Tensor:
    settings = {"steps": 6, "cfg": 5.0, "size": (64, 64), "negative": NEGATIVE, "seed": SEED, **asked}
    return pipe(settings.pop("prompt", PROMPT), like="diffusers", sampler=sampler, **settings).latents


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("sampler", [name for name in CLASSES if name not in BROKEN])
def test_every_class(sampler: str, ours: Pipeline, theirs: Any) -> None:
    expected = reference(theirs, sampler)
    assert expected.std() > 0.1
    assert apart(drawn(ours, sampler), expected) < 1e-4


@pytest.mark.parametrize(
    ("sampler", "schedule", "config"),
    [
        ("euler", "karras", {"use_karras_sigmas": True}),
        ("dpmpp_2m", "karras", {"use_karras_sigmas": True}),
        ("dpmpp_2m", "lambda_uniform", {"use_lu_lambdas": True}),
        ("euler", "exponential", {"use_exponential_sigmas": True}),
        ("heun", "beta", {"use_beta_sigmas": True}),
        ("euler", "trailing", {"timestep_spacing": "trailing"}),
        ("dpmpp_2m", "leading", {"timestep_spacing": "leading"}),
    ],
)
def test_schedules(sampler: str, schedule: str, config: dict[str, Any], ours: Pipeline, theirs: Any) -> None:
    assert apart(drawn(ours, sampler, schedule=schedule), reference(theirs, sampler, config)) < 1e-4


def test_a_long_prompt_is_cut_as_there(ours: Pipeline, theirs: Any) -> None:
    expected = reference(theirs, "euler", prompt=LONG)
    assert apart(drawn(ours, "euler", prompt=LONG), expected) < 1e-4
    assert apart(drawn(ours, "euler", prompt=LONG, emphasis="none"), expected) > 1e-3


def test_guidance_up_to_1_draws_the_prompt_alone(ours: Pipeline, theirs: Any) -> None:
    for scale in (0.0, 0.5):
        expected = reference(theirs, "euler", guidance_scale=scale)
        assert apart(drawn(ours, "euler", cfg=scale), expected) < 1e-4


def test_clip_skip(ours: Pipeline, theirs: Any) -> None:
    """diffusers counts the layers that are left out; it looks for `text_model`, which transformers 5 has dropped."""
    if not hasattr(theirs.text_encoder, "text_model"):
        theirs.text_encoder.__dict__["text_model"] = theirs.text_encoder
    assert apart(drawn(ours, "ddim", clip_skip=2), reference(theirs, "ddim", clip_skip=1)) < 1e-4


def test_what_is_said_wins(ours: Pipeline, theirs: Any) -> None:
    expected = reference(theirs, "euler_ancestral")
    assert apart(drawn(ours, "euler_ancestral", emphasis="a1111"), expected) > 1e-3
    assert apart(drawn(ours, "euler_ancestral", options={"eta": 0.0}), expected) > 1e-3
