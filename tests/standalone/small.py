"""Tiny random models in the real layouts, for tests of what stands on them."""

from __future__ import annotations

import torch

from sigmagraft.standalone.model import Model, ModelInfo
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig
from sigmagraft.standalone.vae import VAE, VAEConfig

UNET = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1), context_dim=64
)
VAE_SIZES = VAEConfig(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1)
TEXT = TextConfig(width=64, layers=2, heads=1, intermediate=128)


def small_model(seed: int = 0, in_channels: int = 4, **info: object) -> Model:
    """An SD1-like model that draws 64x64 in milliseconds."""
    torch.manual_seed(seed)
    unet = UNet(UNetConfig(**{**UNET.__dict__, "in_channels": in_channels})).eval().requires_grad_(False)
    vae = VAE(VAE_SIZES).eval().requires_grad_(False)
    text = TextEncoder(TEXT).eval().requires_grad_(False)
    known = ModelInfo(**{"family": "sd1", "native_size": 64, **info})  # type: ignore[arg-type]
    return Model(unet, vae, [text], known, "small.safetensors", torch.float32, torch.device("cpu"))
