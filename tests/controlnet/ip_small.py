"""A tiny UNet in both programs' names, a tiny CLIP image encoder, and random IP-Adapters in the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sigmagraft.core.keymap import rename, unet_table_for
from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.standalone.unet import UNet

from ..core.manifests import shapes_of

CONTEXT, HIDDEN, POOLED = 64, 64, 40
# A published dimension -> ours; 512 stays, since an ArcFace embedding is known by it.
SD1 = {768: 64, 1536: 128, 3072: 256, 12288: 1024, 1280: HIDDEN, 1024: POOLED, 512: 512, 16: 16, 1: 1}
SDXL = {1280: 64, 2560: 128, 5120: 256, 2048: 64, 8192: 256, 1024: POOLED, 512: 512, 16: 16, 1: 1}


def diffusers_unet(xl: bool = False) -> UNet2DConditionModel:
    """Three levels, the last without attention on the way; SDXL's has two transformers a block and a vector."""
    torch.manual_seed(0)
    more = (
        {
            "use_linear_projection": True,
            "transformer_layers_per_block": [1, 2],
            "attention_head_dim": [1, 1],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
            "block_out_channels": (64, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        }
        if xl
        else {
            "attention_head_dim": 8,
            "block_out_channels": (32, 64, 64),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        }
    )
    unet = UNet2DConditionModel(sample_size=8, layers_per_block=1, cross_attention_dim=CONTEXT, **more)
    return unet.eval().requires_grad_(False)


def our_unet(theirs: UNet2DConditionModel) -> UNet:
    """The same network in our names."""
    state = theirs.state_dict()
    named, unknown = rename(state, unet_table_for(state))
    assert not unknown
    ours = UNet(UNetConfig.from_shapes({name: tuple(value.shape) for name, value in named.items()}))
    ours.load_state_dict(named)
    return ours.eval().requires_grad_(False)


def image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=POOLED,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


def picture(seed: int = 0, size: tuple[int, int] = (50, 37)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def random_adapter(
    manifest: str, config: UNetConfig, loras: bool = False, seed: int = 2
) -> dict[str, Tensor]:
    """Random tensors under the names of a published file's projection, sizes scaled down, for a UNet of `config`."""
    sizes = (SDXL if "sdxl" in manifest else SD1) | ({1024: 1024} if "faceid" in manifest else {})
    source = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source) / max(shape[-1], 8) ** 0.5

    projection = {n: s for n, s in shapes_of()[manifest].items() if n.startswith("image_proj.")}
    tensors = {name: random(*(sizes.get(n, n) for n in shape)) for name, shape in projection.items()}

    for number, channels in enumerate(widths(config)):
        tensors[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = random(channels, CONTEXT)
        tensors[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = random(channels, CONTEXT) * 3
        for odd in (0, 1) if loras else ():
            context = CONTEXT if odd else channels
            for name, inner in (("q", channels), ("k", context), ("v", context), ("out", channels)):
                at = f"ip_adapter.{2 * number + odd}.to_{name}_lora"
                tensors |= {f"{at}.down.weight": random(4, inner), f"{at}.up.weight": random(channels, 4) / 4}
    return tensors


def widths(config: UNetConfig) -> list[int]:
    """Channels of every transformer block in the order of a file's numbers, told independently of our tables."""
    down = [w for w, n, d in _levels(config) for _ in range(n * d)]
    up = [w for w, n, d in reversed(_levels(config)) for _ in range((n + 1) * d)]
    return down + up + [config.widths[-1]] * config.transformer_depth_middle


def _levels(config: UNetConfig) -> list[tuple[int, int, int]]:
    return list(zip(config.widths, config.num_res_blocks, config.transformer_depth, strict=True))


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file(tensors, path)
    return path


def nested(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The two dictionaries of a .bin file."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    return parts
