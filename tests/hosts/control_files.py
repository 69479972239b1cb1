"""Random files of the control family for a tiny SD1-like UNet, made of this package's networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.controlnet.layouts import UNION, control_table
from sigmagraft.controlnet.lllite import LLLite
from sigmagraft.controlnet.network import ControlNet
from sigmagraft.controlnet.t2i import T2IAdapter, T2IConfig
from sigmagraft.controlnet.union import UnionControlNet
from sigmagraft.core.keymap import inverse, rename, unet_table
from sigmagraft.core.unet_config import UNetConfig

HINT = (3, 16, 16, 32, 32, 96, 96, 256)


def filled(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Its state with every parameter drawn anew, those that training starts at zero included."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        scale = 0.5 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.05
        offset = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale + offset
    return {name: value.contiguous() for name, value in network.state_dict().items()}


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Blocks of random colours."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.NEAREST)


def controlnet(config: UNetConfig, seed: int = 2) -> dict[str, Tensor]:
    return filled(ControlNet(config, [*HINT, config.model_channels]), seed)


def union(config: UNetConfig, seed: int = 3) -> dict[str, Tensor]:
    """Published ones have diffusers' names."""
    state = filled(UnionControlNet(config, [*HINT, config.model_channels], 6, 1, 32), seed)
    table = unet_table(config.num_res_blocks, [bool(depth) for depth in config.transformer_depth])
    table |= control_table(len(HINT) - 2, len(config.skips())) | {name: name for name in UNION}
    named, unknown = rename(state, inverse(table))
    assert not unknown
    return named


def control_lora(config: UNetConfig, seed: int = 4) -> dict[str, Tensor]:
    """Pairs for what the UNet has too, whole tensors for the rest."""
    generator, tensors = torch.Generator().manual_seed(seed), {"lora_controlnet": torch.zeros(0)}
    for name, value in controlnet(config, seed).items():
        shared = name.split(".")[0] in ("time_embed", "input_blocks", "middle_block")
        if shared and value.ndim > 1:
            stem, inner = name.removesuffix(".weight"), value.shape[1:]
            tensors[f"{stem}.up"] = (
                torch.randn(len(value), 2, *[1] * (value.ndim - 2), generator=generator) * 0.1
            )
            tensors[f"{stem}.down"] = torch.randn(2, *inner, generator=generator) * 0.1
        else:
            tensors[name] = value
    return tensors


def save(folder: Path, name: str, tensors: dict[str, Tensor], said: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, said)
    return path


def t2i(config: UNetConfig, seed: int = 5) -> dict[str, Tensor]:
    return filled(T2IAdapter(T2IConfig(3, 8, tuple(config.widths), 2)), seed)


def lllite(config: UNetConfig, seed: int = 6) -> dict[str, Tensor]:
    """A module for each of some projections of every transformer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for (side, number), _, width in config.transformers():
        where = f"{side}_block_1" if side == "middle" else f"{side}_blocks_{number}_1"
        for projection in ("attn1_to_q", "attn1_to_v", "attn2_to_q"):
            name = f"{where}_transformer_blocks_0_{projection}"
            shapes |= {f"{name}.conditioning1.0.weight": (4, 3, 4, 4), f"{name}.conditioning1.0.bias": (4,)}
            stride = 2 if side != "middle" else 4
            shapes |= {f"{name}.conditioning1.2.weight": (8, 4, stride, stride)}
            shapes |= {f"{name}.conditioning1.2.bias": (8,)}
            for part, (out, inner) in {"down": (8, width), "mid": (8, 16), "up": (width, 8)}.items():
                shapes |= {f"{name}.{part}.0.weight": (out, inner), f"{name}.{part}.0.bias": (out,)}
    return {f"lllite_unet_{name}": value for name, value in filled(LLLite(shapes), seed).items()}


def ip_adapter(config: UNetConfig, pooled: int = 24, face: bool = False, seed: int = 7) -> dict[str, Tensor]:
    """The first variant, four tokens of the image's pooled features; or FaceID with its change of weights."""
    generator, width = torch.Generator().manual_seed(seed), config.context_dim

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / max(shape[-1], 8) ** 0.5

    if face:
        tensors = {"image_proj.proj.0.weight": random(32, 512), "image_proj.proj.0.bias": random(32)}
        tensors |= {
            "image_proj.proj.2.weight": random(4 * width, 32),
            "image_proj.proj.2.bias": random(4 * width),
        }
    else:
        tensors = {"image_proj.proj.weight": random(4 * width, pooled)}
        tensors["image_proj.proj.bias"] = random(4 * width)
    tensors |= {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": random(width)}
    order = sorted(config.transformers(), key=lambda place: ("input", "output", "middle").index(place[0][0]))
    for number, (_, _, channels) in enumerate(order):
        for which in "kv":
            name = f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight"
            tensors[name] = random(channels, width) * (3 if which == "v" else 1)
        for own, context in ((0, channels), (1, width)) if face else ():
            for name, inner in (("q", channels), ("k", context), ("v", context), ("out", channels)):
                at = f"ip_adapter.{2 * number + own}.to_{name}_lora"
                tensors |= {f"{at}.down.weight": random(4, inner), f"{at}.up.weight": random(channels, 4)}
    return tensors


def image_encoder(pooled: int = 24, seed: int = 8) -> tuple[dict[str, Tensor], dict[str, int | str]]:
    """A small CLIP vision tower in transformers' names, and what is said of it."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    said: dict[str, int | str] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": pooled,
        "hidden_act": "gelu",
    }
    return filled(CLIPVisionModelWithProjection(CLIPVisionConfig(**said)), seed), said
