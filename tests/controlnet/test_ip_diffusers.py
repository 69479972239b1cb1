"""The same latents as diffusers' IP-Adapter, for every variant it has, on random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor

from sigmagraft.controlnet.clip_vision import ImageEncoder
from sigmagraft.controlnet.ip_adapter import IPAdapter
from sigmagraft.controlnet.ip_apply import image_adapters
from sigmagraft.controlnet.ip_settings import ImagePrompt
from sigmagraft.controlnet.strength import Timeline
from sigmagraft.core.patch import Hooks
from sigmagraft.samplers import NoiseLevels, drive
from sigmagraft.standalone.conditioning import Conditioning, size_vector
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import guided

from .ip_small import (
    CONTEXT,
    diffusers_unet,
    image_encoder,
    nested,
    our_unet,
    picture,
    random_adapter,
    saved,
)

diffusers.logging.set_verbosity_error()
STEPS, CFG = 4, 3.0
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SIZES = [768, 0, 0, 768, 64, 64]  # SDXL's numbers are told the same to both


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


COND, UNCOND = draw(1, 7, CONTEXT, seed=3), draw(1, 7, CONTEXT, seed=4)
POOLED_COND, POOLED_UNCOND = draw(1, 16, seed=5), draw(1, 16, seed=6)
START = draw(1, 4, 16, 16, seed=7)


class World:
    """One UNet, encoder and adapter in both programs."""

    def __init__(self, manifest: str, folder: Path, loras: bool = False) -> None:
        self.xl = "sdxl" in manifest
        self.unet = diffusers_unet(self.xl)
        self.ours = our_unet(self.unet)
        self.tensors = random_adapter(manifest, self.ours.config, loras)
        self.file = saved(self.tensors, folder / f"{manifest}.safetensors")
        self.encoder = image_encoder()
        self.encoder.save_pretrained(folder / "image_encoder")
        self.vision = ImageEncoder.load(folder / "image_encoder")

    def theirs(self, prepare: Callable[[Any], None] = lambda pipe: None, **more: Any) -> Tensor:
        """diffusers' pipeline with embeddings in the place of prompts; `prepare` sees it before it runs."""
        none = dict.fromkeys(("vae", "text_encoder", "tokenizer"))
        parts = {
            "unet": self.unet,
            "scheduler": EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace", steps_offset=1),
            "image_encoder": self.encoder,
            "feature_extractor": CLIPImageProcessor(size=28, crop_size=28),
        }
        call: dict[str, Any] = {"prompt_embeds": COND, "negative_prompt_embeds": UNCOND}
        if self.xl:
            pipe = StableDiffusionXLPipeline(
                **parts,
                **none,
                text_encoder_2=None,
                tokenizer_2=None,
                force_zeros_for_empty_prompt=False,
                add_watermarker=False,
            )
            pipe._get_add_time_ids = lambda *a, **k: torch.tensor([SIZES], dtype=torch.float32)
            call |= {"pooled_prompt_embeds": POOLED_COND, "negative_pooled_prompt_embeds": POOLED_UNCOND}
        else:
            pipe = StableDiffusionPipeline(
                **parts, **none, safety_checker=None, requires_safety_checker=False
            )
        pipe.set_progress_bar_config(disable=True)
        pipe.load_ip_adapter(nested(self.tensors), subfolder="", weight_name="", image_encoder_folder=None)
        prepare(pipe)
        return pipe(
            **call,
            num_inference_steps=STEPS,
            guidance_scale=CFG,
            latents=START,
            output_type="latent",
            height=128,
            width=128,
            **more,
        ).images

    def latents(self, *prompts: ImagePrompt, version: int | None = None) -> Tensor:
        """Our sampler, guidance and denoiser with the patches of these prompts."""
        scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace", steps_offset=1)
        scheduler.set_timesteps(STEPS)
        sigmas = [float(s) for s in scheduler.sigmas]
        adapter = IPAdapter.load(self.file, version=version)
        acting = [
            a
            for prompt in prompts
            for a in image_adapters(adapter, self.ours.config, Timeline(sigmas), prompt, self.vision.encode)
        ]
        levels = NoiseLevels.discrete()
        denoiser = Denoiser(self.ours, levels, "eps", torch.float32)
        patches = [patch for one in acting for patch in one.patches()]
        denoiser.hooks = lambda info: Hooks(patches, info)
        cond, uncond = Conditioning(COND), Conditioning(UNCOND)
        if self.xl:
            cond, uncond = (
                Conditioning(c.context, size_vector(p[0], SIZES, 16 + 6 * 8)[None])
                for c, p in ((cond, POOLED_COND), (uncond, POOLED_UNCOND))
            )
        with torch.inference_mode():
            start = START * scheduler.init_noise_sigma
            return drive("euler", guided(denoiser, cond, uncond, CFG), start, sigmas, levels=levels)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(request.param, tmp_path)


def scaled(weight: Any) -> Callable[[Any], None]:
    return lambda pipe: pipe.set_ip_adapter_scale(weight)


@pytest.mark.parametrize(
    "world",
    ["ipadapter_sd15", "ipadapter-plus_sd15", "ipadapter-full-face_sd15", "ipadapter_sdxl_vit-h",
     "ipadapter-plus_sdxl_vit-h"],
    indirect=True,
)  # fmt: skip
def test_a_picture_gives_the_same_latents(world: World) -> None:
    theirs = world.theirs(scaled(0.7), ip_adapter_image=picture())
    assert distance(world.latents(ImagePrompt([picture()], 0.7)), theirs) < 1e-4
    assert distance(world.latents(), theirs) > 1e-2


@pytest.mark.parametrize("world", ["ipadapter-plus_sd15"], indirect=True)
def test_several_pictures_of_one_adapter(world: World) -> None:
    pictures = [picture(seed) for seed in range(3)]
    theirs = world.theirs(scaled(0.5), ip_adapter_image=[pictures])
    assert distance(world.latents(ImagePrompt(pictures, 0.5)), theirs) < 1e-4


@pytest.mark.parametrize("world", ["ipadapter_sd15"], indirect=True)
def test_two_adapters(world: World) -> None:
    def load_both(pipe: Any) -> None:
        pipe.unload_ip_adapter()
        pipe.register_modules(
            image_encoder=world.encoder, feature_extractor=CLIPImageProcessor(size=28, crop_size=28)
        )
        both = [nested(world.tensors)] * 2
        pipe.load_ip_adapter(both, subfolder=["", ""], weight_name=["", ""], image_encoder_folder=None)
        pipe.set_ip_adapter_scale([0.6, 0.9])

    theirs = world.theirs(load_both, ip_adapter_image=[picture(0), picture(1)])
    ours = world.latents(ImagePrompt([picture(0)], 0.6), ImagePrompt([picture(1)], 0.9))
    assert distance(ours, theirs) < 1e-4


@pytest.mark.parametrize("world", ["ipadapter_sd15"], indirect=True)
def test_a_mask_for_each_picture(world: World) -> None:
    """On masks of whole tokens, where every way to resize them agrees."""
    masks = [Image.new("L", (128, 128), 0), Image.new("L", (128, 128), 0)]
    masks[0].paste(255, (0, 0, 64, 128))
    masks[1].paste(255, (64, 64, 128, 128))
    tensors = IPAdapterMaskProcessor().preprocess(masks, height=128, width=128)
    tensors = [tensors.reshape(1, tensors.shape[0], *tensors.shape[2:])]
    theirs = world.theirs(
        scaled([[0.6, 0.9]]),
        ip_adapter_image=[[picture(0), picture(1)]],
        cross_attention_kwargs={"ip_adapter_masks": tensors},
    )
    prompts = [ImagePrompt([picture(i)], w, mask=masks[i]) for i, w in enumerate((0.6, 0.9))]
    assert distance(world.latents(*prompts), theirs) < 1e-4


@pytest.mark.parametrize("world", ["ipadapter_sd15"], indirect=True)
def test_weights_by_layer(world: World) -> None:
    theirs = world.theirs(
        scaled({"down": {"block_1": [0.9]}, "up": {"block_2": [0.0, 0.4]}}), ip_adapter_image=picture()
    )
    layers = {"down_blocks.1.attentions.0": 0.9, "up_blocks.2.attentions.1": 0.4}
    assert distance(world.latents(ImagePrompt([picture()], layers=layers)), theirs) < 1e-4


FACE = draw(1, 512, seed=8)


def merge_loras(world: World) -> None:
    """What FaceID's file changes in the weights, put into our network; diffusers does it by itself."""
    weights = dict(world.ours.named_parameters())
    for patch in IPAdapter.load(world.file).weight_patches(world.ours.config):
        weights[patch.key].data += patch.strength * patch.delta.delta(weights[patch.key])


@pytest.mark.parametrize("manifest", ["ipadapter-faceid_sd15", "ipadapter-faceid-portrait_sd15"])
def test_a_face(manifest: str, tmp_path: Path) -> None:
    world = World(manifest, tmp_path, loras="portrait" not in manifest)
    embeds = torch.stack([torch.zeros_like(FACE), FACE])
    theirs = world.theirs(scaled(0.7), ip_adapter_image_embeds=[embeds])
    prompt = ImagePrompt(face=FACE, weight=0.7)
    assert ("portrait" in manifest) == (distance(world.latents(prompt), theirs) < 1e-3)
    merge_loras(world)
    assert distance(world.latents(prompt), theirs) < 1e-4


@pytest.mark.parametrize("version", [1, 2])
def test_a_face_with_its_picture(version: int, tmp_path: Path) -> None:
    world = World("ipadapter-faceid-plus_sd15", tmp_path, loras=True)
    features = world.vision.encode([picture()], ["hidden"])
    assert features.hidden is not None
    assert features.zero_hidden is not None

    def prepare(pipe: Any) -> None:
        pipe.set_ip_adapter_scale(0.7)
        layer = pipe.unet.encoder_hid_proj.image_projection_layers[0]
        layer.clip_embeds = torch.stack([features.zero_hidden, features.hidden])
        layer.shortcut, layer.shortcut_scale = version == 2, 1.3

    embeds = torch.stack([torch.zeros_like(FACE), FACE])
    theirs = world.theirs(prepare, ip_adapter_image_embeds=[embeds])
    merge_loras(world)
    prompt = ImagePrompt([picture()], face=FACE, weight=0.7, face_strength=1.3)
    assert distance(world.latents(prompt, version=version), theirs) < 1e-4
