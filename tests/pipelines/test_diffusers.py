"""The latents of every pipeline are those of diffusers' pipeline of that name, from the same folder and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import sigmagraft
from sigmagraft.pipelines import DiffusionPipeline

from .reference import CLASSES, make

SIZE = 64
PROMPT, NEGATIVE = "a red cat, sitting on a mat", "blurry"


def picture(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).random((SIZE, SIZE, 3))
    return Image.fromarray((values * 255).astype("uint8"))


def mask() -> Image.Image:
    values = np.zeros((SIZE, SIZE), dtype="uint8")
    values[8:40, 16:56] = 255
    return Image.fromarray(values)


class Pair:
    """diffusers' pipeline and ours on one folder."""

    def __init__(self, family: str, folder: Path) -> None:
        self.theirs = make(family, folder)
        self.folder = folder / family
        self.ours = DiffusionPipeline.from_pretrained(self.folder)

    def use(self, scheduler: str, **more: Any) -> None:
        theirs, ours = getattr(diffusers, scheduler), getattr(sigmagraft, scheduler)
        config = {**ours.from_pretrained(self.folder, subfolder="scheduler").config, **more}
        # what a folder says is said; diffusers would forget its defaults
        config.pop("_use_default_values", None)
        self.theirs.scheduler, self.ours.scheduler = theirs.from_config(config), ours.from_config(config)

    def become(self, name: str) -> None:
        theirs, ours = getattr(diffusers, name), getattr(sigmagraft, name)
        self.theirs, self.ours = theirs.from_pipe(self.theirs), ours.from_pipe(self.ours)

    def check(self, generators: int = 0, **given: Any) -> None:
        results = []
        for pipe in (self.theirs, self.ours):
            pipe.set_progress_bar_config(disable=True)
            seeds = [torch.Generator().manual_seed(3 + k) for k in range(generators or 1)]
            drawn = seeds if generators else seeds[0]
            told = {"output_type": "latent", "generator": drawn, "num_inference_steps": 4, **given}
            results.append(pipe(**told).images)
        theirs, ours = results
        assert ours.shape == theirs.shape
        away = float((ours - theirs).abs().max() / theirs.abs().max())
        assert away <= 1e-4


@pytest.fixture(scope="module", params=list(CLASSES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("folders"))


SCHEDULERS = ["PNDMScheduler", "DDIMScheduler", "EulerAncestralDiscreteScheduler", "TCDScheduler"]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("sd1", tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("sdxl", tmp_path_factory.mktemp("sdxl"))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [0.0, 5.0])
def test_text_to_image(sd1: Pair, scheduler: str, guidance: float) -> None:
    sd1.become("StableDiffusionPipeline")
    sd1.use(scheduler)
    eta = 0.3 if scheduler == "TCDScheduler" else 0.0
    sd1.check(
        prompt=PROMPT, negative_prompt=NEGATIVE, guidance_scale=guidance, eta=eta, height=SIZE, width=SIZE
    )


def test_a_batch_with_rescaled_guidance(sd1: Pair) -> None:
    sd1.become("StableDiffusionPipeline")
    sd1.use("DDIMScheduler")
    sd1.check(
        prompt=[PROMPT, "a dog"],
        negative_prompt=[NEGATIVE, ""],
        num_images_per_prompt=2,
        guidance_rescale=0.7,
        height=SIZE,
        width=2 * SIZE,
        generators=4,
    )


@pytest.mark.parametrize("strength", [0.5, 0.99])
@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"])
def test_from_a_picture(sd1: Pair, name: str, strength: float) -> None:
    sd1.become(name)
    sd1.use("DDIMScheduler")
    more = {"mask_image": mask(), "height": SIZE, "width": SIZE} if "Inpaint" in name else {}
    sd1.check(prompt=PROMPT, image=picture(), strength=strength, num_inference_steps=8, **more)


def test_each_class_as_its_folder_names_it(pair: Pair) -> None:
    assert type(pair.ours).__name__ == type(pair.theirs).__name__
    pair.use("EulerDiscreteScheduler")
    name = type(pair.ours).__name__
    more: dict[str, Any] = {"height": SIZE, "width": SIZE}
    if "Img2Img" in name or "Depth" in name:
        more = {"image": picture(), "strength": 0.6, "num_inference_steps": 6}
    if "Depth" in name:
        more["depth_map"] = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(1))
    if "Inpaint" in name:
        more |= {"image": picture(), "mask_image": mask(), "strength": 0.75}
    pair.check(prompt=PROMPT, negative_prompt=NEGATIVE, **more)


def test_sdxl_sizes_second_prompt_and_no_negative(sdxl: Pair) -> None:
    sdxl.become("StableDiffusionXLPipeline")
    sdxl.use("EulerDiscreteScheduler")
    same = {"height": SIZE, "width": SIZE}
    sdxl.check(prompt=PROMPT, **same)
    sdxl.check(
        prompt=PROMPT,
        prompt_2="in the style of a woodcut",
        negative_prompt=NEGATIVE,
        negative_prompt_2="photo",
        original_size=(640, 480),
        crops_coords_top_left=(16, 8),
        target_size=(512, 384),
        negative_original_size=(64, 96),
        negative_target_size=(32, 48),
        **same,
    )


def test_sdxl_hands_over(sdxl: Pair) -> None:
    sdxl.become("StableDiffusionXLPipeline")
    sdxl.use("EulerDiscreteScheduler")
    sdxl.check(prompt=PROMPT, denoising_end=0.6, num_inference_steps=8, height=SIZE, width=SIZE)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    sdxl.become("StableDiffusionXLImg2ImgPipeline")
    sdxl.check(prompt=PROMPT, image=latents, denoising_start=0.6, num_inference_steps=8)


def test_sdxl_inpainting(sdxl: Pair) -> None:
    sdxl.become("StableDiffusionXLInpaintPipeline")
    sdxl.use("TCDScheduler")
    sdxl.check(
        prompt=PROMPT,
        image=picture(),
        mask_image=mask(),
        strength=0.99,
        guidance_scale=0.0,
        eta=0.3,
        num_inference_steps=8,
        height=SIZE,
        width=SIZE,
    )


def test_pictures(sd1: Pair) -> None:
    """Decoded by each: the same picture but for the rounding of a pixel."""
    sd1.become("StableDiffusionPipeline")
    sd1.use("DDIMScheduler")
    found = []
    for pipe in (sd1.theirs, sd1.ours):
        seed = torch.Generator().manual_seed(3)
        found.append(pipe(PROMPT, num_inference_steps=2, height=SIZE, width=SIZE, generator=seed).images[0])
    theirs, ours = (np.asarray(image, dtype=int) for image in found)
    assert ours.shape == (SIZE, SIZE, 3)
    assert np.abs(ours - theirs).max() <= 1
