"""A whole run under a control ends in diffusers' pipelines' latents: same weights, noise, steps and guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft.controlnet.model import ControlModel
from sigmagraft.controlnet.settings import Control
from sigmagraft.controlnet.strength import Timeline
from sigmagraft.core.adapters import hooks_of
from sigmagraft.samplers import SAMPLERS, drive
from sigmagraft.standalone.conditioning import Conditioning
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.guidance import guided
from sigmagraft.standalone.levels import levels_of
from sigmagraft.standalone.model import ModelInfo
from sigmagraft.standalone.unet import UNet

from .peers import FAMILIES, filled, host_of, our_unet, saved, their_control, their_unet
from .test_residuals import picture, pixels

STEPS, CFG, SIZE = 4, 5.0, 128
LEVELS = levels_of(ModelInfo(family="sd1"))
pytestmark = pytest.mark.filterwarnings("ignore")


def scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def sigmas() -> list[float]:
    """The noise levels of the scheduler's steps."""
    made = scheduler()
    made.set_timesteps(STEPS)
    return [LEVELS.sigmas[int(t)] for t in made.timesteps] + [0.0]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(batch: int = 1, vector: int | None = None) -> list[Conditioning]:
    return [
        Conditioning(
            random(batch, 5, 48, seed=s), None if vector is None else random(batch, vector, seed=s + 9)
        )
        for s in (11, 12)
    ]


def ours(unet: UNet, controls: Sequence[Control], conds: Sequence[Conditioning], latents: Tensor) -> Tensor:
    """Our run's end."""
    walk = sigmas()
    host = host_of(unet, timeline=Timeline(walk))
    denoiser = Denoiser(unet, LEVELS, "eps", torch.float32)
    denoiser.hooks = hooks_of([control.model.acting(control, host) for control in controls])
    denoise = guided(denoiser, *conds, CFG)
    x = latents * math.hypot(1.0, walk[0])
    return drive(SAMPLERS["ddim"], denoise, x, walk, levels=LEVELS, options={"eta": 0.0})


def theirs(pipeline: Any, conds: Sequence[Conditioning], latents: Tensor, **more: Any) -> Tensor:
    """Their run's end."""
    pipeline.set_progress_bar_config(disable=True)
    cond, uncond = conds
    return pipeline(
        prompt_embeds=cond.context,
        negative_prompt_embeds=uncond.context,
        latents=latents,
        num_inference_steps=STEPS,
        guidance_scale=CFG,
        height=SIZE,
        width=SIZE,
        output_type="latent",
        return_dict=False,
        **more,
    )[0]


def parts(unet: Any, **more: Any) -> dict[str, Any]:
    """A pipeline's components, without the text encoder: the prompts come encoded."""
    from diffusers import AutoencoderKL

    sides = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(32,) * 4, **sides).eval()
    named = {"vae": vae, "unet": unet, "scheduler": scheduler(), "text_encoder": None, "tokenizer": None}
    return named | more


NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@pytest.mark.parametrize("end", [1.0, 0.5])
def test_two_controlnets(end: float, tmp_path: Path) -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    unet = their_unet("sd1")
    controls = [their_control(ControlNetModel, "sd1", seed=seed) for seed in (2, 3)]
    pipeline = StableDiffusionControlNetPipeline(**parts(unet, controlnet=controls, **NO_CHECKER))
    latents, conds = random(1, 4, 16, 16, seed=1), prompts()
    expected = theirs(
        pipeline,
        conds,
        latents,
        image=[pixels(picture(0)), pixels(picture(1))],
        controlnet_conditioning_scale=[0.8, 0.5],
        control_guidance_start=[0.0, 0.25],
        control_guidance_end=[end, 1.0],
    )
    models = [ControlModel.load(saved(c, tmp_path / f"{i}.safetensors")) for i, c in enumerate(controls)]
    asked = [
        Control(model=models[0], image=picture(0), strength=0.8, end=end),
        Control(model=models[1], image=picture(1), strength=0.5, start=0.25),
    ]
    found = ours(our_unet(unet), asked, conds, latents)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    without = ours(our_unet(unet), asked[:1], conds, latents)
    assert (without - expected).abs().max() > 1e-2


def test_t2i_adapter(tmp_path: Path) -> None:
    from diffusers import StableDiffusionAdapterPipeline, T2IAdapter

    unet = their_unet("sd1")
    adapter = filled(T2IAdapter(3, [32, 64, 128, 128], 2, 8, "full_adapter"), 4)
    pipeline = StableDiffusionAdapterPipeline(**parts(unet, adapter=adapter, **NO_CHECKER))
    latents, conds = random(1, 4, 16, 16, seed=1), prompts()
    expected = theirs(pipeline, conds, latents, image=pixels(picture()), adapter_conditioning_scale=0.8)
    model = ControlModel.load(saved(adapter, tmp_path / "t2i.safetensors"))
    found = ours(our_unet(unet), [Control(model=model, image=picture(), strength=0.8)], conds, latents)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


class Pooling(torch.nn.Module):
    """What the SDXL pipeline asks of a text encoder it is not to use."""

    device, dtype = torch.device("cpu"), torch.float32

    class config:
        projection_dim = 32


def test_union(tmp_path: Path) -> None:
    from diffusers import ControlNetUnionModel, StableDiffusionXLControlNetUnionPipeline

    unet = their_unet("union")
    control = their_control(
        ControlNetUnionModel,
        "union",
        conditioning_embedding_out_channels=(16, 32, 96, 256),
        num_control_type=6,
    )
    pipeline = StableDiffusionXLControlNetUnionPipeline(
        **parts(
            unet,
            controlnet=control,
            text_encoder_2=None,
            tokenizer_2=None,
            add_watermarker=False,
            feature_extractor=None,
        )
    )
    pipeline.text_encoder_2 = Pooling()
    latents, conds = random(1, 4, 16, 16, seed=1), prompts()
    pooled = [random(1, 32, seed=s) for s in (21, 22)]
    expected = theirs(
        pipeline,
        conds,
        latents,
        control_image=[pixels(picture(0)), pixels(picture(1))],
        control_mode=[1, 3],
        controlnet_conditioning_scale=0.7,
        pooled_prompt_embeds=pooled[0],
        negative_pooled_prompt_embeds=pooled[1],
    )
    times = unet.add_time_proj(torch.tensor([128.0, 128, 0, 0, 128, 128])).flatten()[None]
    told = [Conditioning(c.context, torch.cat([p, times], dim=1)) for c, p in zip(conds, pooled, strict=True)]
    model = ControlModel.load(saved(control, tmp_path / "union.safetensors"))
    asked = Control(model=model, image=[picture(0), picture(1)], types=["depth", "canny"], strength=0.7)
    found = ours(our_unet(unet), [asked], told, latents)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_sparsectrl(tmp_path: Path) -> None:
    """A motion adapter of zeros leaves each frame to the UNet, so the pipeline's frames are a batch of ours."""
    from diffusers import AnimateDiffSparseControlNetPipeline, MotionAdapter, SparseControlNetModel

    from .test_residuals import their_control_sparse

    unet = their_unet("sd1")
    settings = {
        k: v for k, v in FAMILIES["sd1"].items() if k in ("block_out_channels", "cross_attention_dim")
    }
    control = their_control_sparse(SparseControlNetModel, settings, simple=False)
    motion = MotionAdapter(
        block_out_channels=(32, 64, 128, 128), motion_num_attention_heads=8, use_motion_mid_block=False
    )
    for name, parameter in motion.named_parameters():
        if "proj_out" in name:
            torch.nn.init.zeros_(parameter)
    components = parts(unet, motion_adapter=motion.eval(), controlnet=control)
    pipeline = AnimateDiffSparseControlNetPipeline(**components)
    frames = 4
    noise, conds = random(1, 4, frames, 16, 16, seed=1), prompts()
    expected = theirs(
        pipeline,
        conds,
        noise,
        num_frames=frames,
        conditioning_frames=[picture()],
        controlnet_frame_indices=[1],
        controlnet_conditioning_scale=0.9,
    )
    model = ControlModel.load(saved(control, tmp_path / "sparse.safetensors"))
    asked = Control(model=model, image=picture(), frames=[1], strength=0.9, joint_norm=True)
    told = [Conditioning(c.context.repeat(frames, 1, 1)) for c in conds]
    found = ours(our_unet(unet), [asked], told, noise[0].transpose(0, 1))
    torch.testing.assert_close(found, expected[0].transpose(0, 1), atol=1e-4, rtol=1e-4)
