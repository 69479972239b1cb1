"""PAG, SAG, controls beside a picture, and differential image to image: latents are those of diffusers' classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

import sigmagraft
from sigmagraft.core.errors import OptionError

from .reference import NONE, make
from .test_adapters import controlnet

SIZE = 64
slow = pytest.mark.slow


class Pair:
    """diffusers' pipeline and ours on one folder with a DDIM, as any class of both."""

    def __init__(self, family: str, root: Path) -> None:
        self.root, self.family = root, family
        self.theirs = make(family, root)
        self.ours = sigmagraft.DiffusionPipeline.from_pretrained(root / family)
        self.ours.scheduler = sigmagraft.DDIMScheduler.from_config(self.ours.scheduler.config)
        self.theirs.scheduler = diffusers.DDIMScheduler.from_config(dict(self.ours.scheduler.config))

    def named(self, name: str, **options: Any) -> tuple[Any, Any]:
        """Both programs' pipeline of this class."""
        parts, none = dict(self.theirs.components), {} if "XL" in name else NONE
        told: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        if "ControlNet" in name:
            folder = self.root / "control"
            told[0]["controlnet"] = controlnet(self.theirs.unet, folder, 1)
            told[1]["controlnet"] = sigmagraft.ControlNetModel.from_pretrained(folder)
        theirs = getattr(diffusers, name)(**{**parts, **none, **told[0], **options})
        return theirs, getattr(sigmagraft, name).from_pipe(self.ours, **told[1], **options)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("sd1", tmp_path_factory.mktemp("kin"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("sdxl", tmp_path_factory.mktemp("kin"))


def picture(side: int = SIZE) -> Image.Image:
    return Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 20).convert("RGB")


def given(name: str) -> dict[str, Any]:
    """The pictures that a class of this name takes."""
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (16, 16, 48, 40))
    found: dict[str, Any] = {"image": picture()} if "Img2Img" in name or "Inpaint" in name else {}
    found |= {"mask_image": mask} if "Inpaint" in name else {}
    if "ControlNet" in name:
        found["control_image" if found else "image"] = picture().rotate(90)
    return {**found, "strength": 0.8} if "Img2Img" in name else {**found, "height": SIZE, "width": SIZE}


def same(both: tuple[Any, Any], **more: Any) -> Any:
    """The latents, which have to be alike."""
    found, name = [], type(both[1]).__name__
    told = {
        **given(name),
        "num_inference_steps": 3,
        "negative_prompt": "blurry",
        "guidance_scale": 4.0,
        **more,
    }
    for pipe in both:
        pipe.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(3)
        found.append(pipe("a red cat", generator=seed, output_type="latent", **told).images)
    assert float((found[1] - found[0]).abs().max() / found[0].abs().max()) <= 1e-4
    return found[1]


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPAGPipeline",
        pytest.param("StableDiffusionPAGImg2ImgPipeline", marks=slow),
        pytest.param("StableDiffusionPAGInpaintPipeline", marks=slow),
        pytest.param("StableDiffusionControlNetPAGPipeline", marks=slow),
        "StableDiffusionControlNetPAGInpaintPipeline",
        pytest.param("StableDiffusionXLPAGPipeline", marks=slow),
        pytest.param("StableDiffusionXLPAGImg2ImgPipeline", marks=slow),
        pytest.param("StableDiffusionXLPAGInpaintPipeline", marks=slow),
        pytest.param("StableDiffusionXLControlNetPAGPipeline", marks=slow),
        pytest.param("StableDiffusionXLControlNetPAGImg2ImgPipeline", marks=slow),
    ],
)
def test_pag(request: pytest.FixtureRequest, name: str) -> None:
    pair = request.getfixturevalue("sdxl" if "XL" in name else "sd1")
    processors = pair.theirs.unet.attn_processors
    both = pair.named(name, pag_applied_layers=["up_blocks.1.attentions.(0|1)", "mid"])
    try:
        plain = same(both, pag_scale=0.0)
        found = same(both, pag_scale=2.0)
        assert (found - plain).abs().max() > 1e-2
        falling = same(both, pag_scale=2.0, pag_adaptive_scale=0.003)
        assert (falling - found).abs().max() > 1e-3
        same(both, pag_scale=2.0, guidance_scale=0.0)
        if name in (
            "StableDiffusionPAGPipeline",
            "StableDiffusionXLPAGPipeline",
        ):  # SD's inpainting fails there
            same(both, pag_scale=2.0, guidance_rescale=0.6)
    finally:
        pair.theirs.unet.set_attn_processor(processors)


def test_where_pag_acts(sd1: Pair, tmp_path: Path) -> None:
    _, ours = sd1.named("StableDiffusionPAGPipeline")
    assert ours.pag_applied_layers == ["mid"]
    with pytest.raises(OptionError, match=r"mid_block\.attentions.0.transformer_blocks.0.attn1"):
        ours.set_pag_applied_layers("nowhere")
    ours.set_pag_applied_layers("down_blocks.1")
    ours.save_pretrained(tmp_path / "saved")
    again = sigmagraft.DiffusionPipeline.from_pretrained(tmp_path / "saved")
    assert type(again).__name__ == "StableDiffusionPAGPipeline"
    assert again.pag_applied_layers == ["down_blocks.1"]
    assert diffusers.DiffusionPipeline.from_pretrained(tmp_path / "saved").pag_applied_layers == [
        "down_blocks.1"
    ]


def test_auto_pipelines_choose_by_what_is_given(sd1: Pair) -> None:
    folder = sd1.root / "sd1"
    made = sigmagraft.AutoPipelineForText2Image.from_pretrained(
        folder, enable_pag=True, pag_applied_layers="up"
    )
    assert type(made) is sigmagraft.StableDiffusionPAGPipeline
    assert made.pag_applied_layers == ["up"]
    painting = sigmagraft.AutoPipelineForInpainting.from_pipe(made)
    assert type(painting) is sigmagraft.StableDiffusionPAGInpaintPipeline
    assert painting.pag_applied_layers == ["up"]
    plain = sigmagraft.AutoPipelineForImage2Image.from_pipe(painting, enable_pag=False)
    assert type(plain) is sigmagraft.StableDiffusionImg2ImgPipeline
    _, ours = sd1.named("StableDiffusionControlNetPipeline")
    held = sigmagraft.AutoPipelineForImage2Image.from_pipe(ours)
    assert type(held) is sigmagraft.StableDiffusionControlNetImg2ImgPipeline
    freed = sigmagraft.AutoPipelineForImage2Image.from_pipe(ours, controlnet=None)
    assert type(freed) is sigmagraft.StableDiffusionImg2ImgPipeline
    with pytest.raises(OptionError, match="no StableDiffusionControlNetPAGImg2ImgPipeline"):
        sigmagraft.AutoPipelineForImage2Image.from_pipe(ours, enable_pag=True)


@pytest.mark.filterwarnings("ignore")
def test_sag(sd1: Pair) -> None:
    processors = sd1.theirs.unet.attn_processors
    both = sd1.named("StableDiffusionSAGPipeline")
    try:
        large = {
            "height": 128,
            "width": 128,
        }  # at 64 the middle block has one token, which gets all attention
        plain = same(both, sag_scale=0.0, **large)
        assert (same(both, sag_scale=8.0, **large) - plain).abs().max() > 1e-2
        same(both, sag_scale=8.0, guidance_scale=0.0, **large)
    finally:
        sd1.theirs.unet.set_attn_processor(processors)


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionControlNetImg2ImgPipeline",
        pytest.param("StableDiffusionControlNetInpaintPipeline", marks=slow),
        pytest.param("StableDiffusionXLControlNetImg2ImgPipeline", marks=slow),
        pytest.param("StableDiffusionXLControlNetInpaintPipeline", marks=slow),
    ],
)
def test_controls_beside_a_picture(request: pytest.FixtureRequest, name: str) -> None:
    pair = request.getfixturevalue("sdxl" if "XL" in name else "sd1")
    both = pair.named(name)
    held = same(both)
    assert (held - same(both, controlnet_conditioning_scale=0.0)).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["sd1", pytest.param("sdxl", marks=slow)])
def test_a_map_says_how_much_of_a_picture_stays(request: pytest.FixtureRequest, family: str) -> None:
    """By diffusers' image to image, whose callback puts the noised picture back where map > i / n before step i."""
    pair, away = request.getfixturevalue(family), "XL" if family == "sdxl" else ""
    theirs, _ = pair.named(f"StableDiffusion{away}Img2ImgPipeline")
    ours = getattr(sigmagraft, f"StableDiffusion{away}DifferentialImg2ImgPipeline").from_pipe(pair.ours)
    grey = torch.linspace(0, 1, SIZE).expand(1, SIZE, SIZE)
    small = torch.nn.functional.interpolate(grey[None], (SIZE // 8, SIZE // 8), mode="bilinear")
    steps = 4
    told = {"image": picture(), "strength": 0.8, "num_inference_steps": steps + 1, "output_type": "latent"}

    def seeded(draws: int) -> torch.Generator:
        seed = torch.Generator().manual_seed(3)
        for _ in range(draws):
            torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=seed)
        return seed

    source = seeded(2)
    pixels = theirs.image_processor.preprocess(picture())
    init = theirs.vae.encode(pixels).latent_dist.sample(source) * theirs.vae.config.scaling_factor
    noise = torch.randn(init.shape, generator=source)

    def put_back(pipe: Any, i: int, time: Any, state: dict[str, Any]) -> dict[str, Any]:
        if i + 1 == steps:
            return state
        times = pipe.scheduler.timesteps[-steps:]
        kept = pipe.scheduler.add_noise(init, noise, times[i + 1 : i + 2])
        return {"latents": torch.where(small > (i + 1) / steps, kept, state["latents"])}

    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    expected = theirs("a cat", generator=seeded(2), callback_on_step_end=put_back, **told).images
    found = ours("a cat", generator=seeded(0), map=grey, **told).images
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-4
    plain = ours("a cat", generator=seeded(0), map=torch.zeros(SIZE, SIZE), **told).images
    assert (plain - found).abs().max() > 1e-2
    with pytest.raises(OptionError, match="no map"):
        ours("a cat", **told)
