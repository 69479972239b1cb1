"""Tiny SD1-like checkpoints on disk, in milliseconds, for tests of what loading makes of files."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sigmagraft.core.keymap import inverse, rename, unet_table, vae_table
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig
from sigmagraft.standalone.vae import VAE, VAEConfig

UNET = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1), transformer_depth=(1, 1), context_dim=64
)
VAE_SIZES = VAEConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1)
TEXT = TextConfig(vocab=514, width=64, layers=2, heads=1, intermediate=128)
Tensors = dict[str, Tensor]


@lru_cache
def parts() -> tuple[Tensors, Tensors, Tensors]:
    """UNet, VAE and text encoder under our own names."""
    torch.manual_seed(0)
    unet, vae, text = UNet(UNET).state_dict(), VAE(VAE_SIZES).state_dict(), TextEncoder(TEXT).state_dict()
    return dict(unet), dict(vae), dict(text)


def tensors(unet: bool = True, vae: bool = True, text: bool = True) -> Tensors:
    """A single file's tensors in LDM's layout."""
    found: Tensors = {}
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.")
    for part, prefix, wanted in zip(parts(), prefixes, (unet, vae, text), strict=True):
        found |= {prefix + name: value for name, value in part.items() if wanted}
    return found


def write_file(
    path: Path, change: Tensors | None = None, metadata: dict[str, str] | None = None, **kept: bool
) -> Path:
    """A whole checkpoint, with tensors changed or added, parts left out."""
    save_file(tensors(**kept) | (change or {}), path, metadata=metadata)
    return path


def diffusers_parts() -> dict[str, Tensors]:
    """The same weights by component folder, in diffusers' and transformers' layout."""
    unet, vae, text = parts()
    unet = rename(unet, inverse(unet_table(UNET.num_res_blocks, [True, True])))[0]
    vae = rename(vae, inverse(vae_table(2, 1)))[0]
    vae = {n: v[..., 0, 0] if ".attentions." in n and v.ndim == 4 else v for n, v in vae.items()}
    return {"unet": unet, "vae": vae, "text_encoder": text}


STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def write_folder(root: Path, scheduler: dict[str, Any] | None = None, variant: str | None = None) -> Path:
    """A diffusers folder; `variant` writes its weights as that variant alone."""
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    configs = {"unet": {"attention_head_dim": 8}, "vae": {"scaling_factor": 0.5}, "text_encoder": {}}
    for name, part in diffusers_parts().items():
        (root / name).mkdir(parents=True)
        dot = f".{variant}" if variant else ""
        save_file(
            {n: v.contiguous() for n, v in part.items()}, root / name / f"{STEMS[name]}{dot}.safetensors"
        )
        (root / name / "config.json").write_text(json.dumps(configs[name]))
        index[name] = ["library", "Class"]
    if scheduler is not None:
        (root / "scheduler").mkdir()
        (root / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def same_weights(model: Any, dtype: torch.dtype = torch.float32) -> None:
    """The loaded networks hold exactly these weights."""
    for network, part in zip((model.unet, model.vae, *model.texts), parts(), strict=True):
        state = network.state_dict()
        assert set(state) == set(part)
        assert all(torch.equal(state[name], value.to(dtype)) for name, value in part.items())
