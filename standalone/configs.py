"""Sizes of our networks as the configs that diffusers' classes are made from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.unet_config import UNetConfig
from .vae import VAEConfig

# what diffusers keeps as matrices where we have 1x1 convolutions: the VAE's attention
FLAT = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
EDM_SCALE = 0.5  # the deviation that latents with a mean and deviation of their own are brought to


def unet_config(c: UNetConfig, sample_size: int) -> dict[str, Any]:
    """The config.json of a UNet2DConditionModel with these sizes; `sample_size` in latent pixels."""
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in c.transformer_depth]
    # diffusers takes the middle's depth from the last level, whether that has transformers or not
    last = c.transformer_depth[-1] or c.transformer_depth_middle
    depths = [max(depth, 1) for depth in (*c.transformer_depth[:-1], last)]
    config: dict[str, Any] = {
        "sample_size": sample_size,
        "in_channels": c.in_channels,
        "out_channels": c.out_channels,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "block_out_channels": c.widths,
        "layers_per_block": _one(list(c.num_res_blocks)),
        "cross_attention_dim": c.context_dim,
        "attention_head_dim": _one([c.heads(width) for width in c.widths]),
        "transformer_layers_per_block": _one(depths),
        "use_linear_projection": c.use_linear,
    }
    if c.adm_in_channels is not None:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": c.adm_in_channels,
        }
    return config


def vae_config(c: VAEConfig, scale: float | Tensor, shift: float | Tensor = 0.0) -> dict[str, Any]:
    """The config.json of an AutoencoderKL with these sizes; the UNet sees (latent - shift) * scale."""
    levels = len(c.ch_mult)
    config: dict[str, Any] = {
        "in_channels": c.in_channels,
        "out_channels": c.out_channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [c.ch * m for m in c.ch_mult],
        "layers_per_block": c.num_res_blocks,
        "latent_channels": c.z_channels,
        "sample_size": 512,
    } | _scaling(scale, shift)
    if c.embed_dim is None:
        config |= {"use_quant_conv": False, "use_post_quant_conv": False}
    return config


def _scaling(scale: float | Tensor, shift: float | Tensor) -> dict[str, Any]:
    """One scale and shift, or latents_mean and latents_std where each channel has its own."""
    if isinstance(scale, Tensor) and isinstance(shift, Tensor):
        std = EDM_SCALE / scale
        return {
            "scaling_factor": EDM_SCALE,
            "latents_mean": shift.flatten().tolist(),
            "latents_std": std.flatten().tolist(),
        }
    return {"scaling_factor": float(scale)} | ({"shift_factor": float(shift)} if shift else {})


def _one(values: list[int]) -> int | list[int]:
    """A number where all are the same, as diffusers writes it."""
    return values[0] if len(set(values)) == 1 else values
