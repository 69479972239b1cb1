"""The random weights that both peers of benchmarks.control load: an SD1.5-shaped UNet, ControlNets, an IP-Adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from .lora_setup import Setup as Place
from .lora_setup import fill
from .pipeline_peers import DTYPES

CONTEXT, POOLED, TOKENS = 768, 1024, 4
UNET, IMAGE = "unet.safetensors", "ip.safetensors"


@dataclass(frozen=True)
class Setup:
    """What both peers are asked for; `channels` are the first level's, `side` the picture's in pixels."""

    folder: str
    channels: int
    side: int
    steps: int
    device: str
    dtype: str
    busy: bool = False

    @property
    def sizes(self) -> dict[str, Any]:
        """diffusers' settings of UNet and ControlNet."""
        c = self.channels
        return {
            "block_out_channels": (c, 2 * c, 4 * c, 4 * c),
            "attention_head_dim": 8,
            "cross_attention_dim": CONTEXT,
        }

    def net(self, number: int) -> Path:
        return Path(self.folder) / f"control{number}.safetensors"


@dataclass(frozen=True)
class Case:
    """So many ControlNets at this strength from this share of the steps on, and an IP-Adapter or none."""

    nets: int = 0
    image: bool = False
    strength: float = 0.5
    start: float = 0.0


CASES = {
    "1 ControlNet": Case(1),
    "3 ControlNets": Case(3),
    "3 at strength 0": Case(3, strength=0.0),
    "3 out of range": Case(3, start=0.999),
    "IP-Adapter": Case(image=True),
    "IP at weight 0": Case(image=True, strength=0.0),
}


def write_files(setup: Setup) -> None:
    """All of them, in diffusers' names but for the IP-Adapter's published ones."""
    from diffusers import ControlNetModel, UNet2DConditionModel
    from diffusers.utils import logging
    from safetensors.torch import save_file

    logging.set_verbosity_error()

    folder = Path(setup.folder)
    made = {folder / UNET: UNet2DConditionModel} | {setup.net(n): ControlNetModel for n in range(3)}
    for path, kind in made.items():
        save_file(_filled(kind, setup, path.stem).state_dict(), path)
    save_file(_image_adapter(setup), folder / IMAGE)


def _filled(kind: Any, setup: Setup, salt: str) -> nn.Module:
    with torch.device("meta"):
        network = kind(**setup.sizes)
    fill(network, Place("", 0, 0, 0, "cpu", setup.dtype), lambda name: f"{salt}.{name}")
    return network


def _image_adapter(setup: Setup) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * shape[-1] ** -0.5).to(DTYPES[setup.dtype])

    c = setup.channels
    widths = [c] * 2 + [2 * c] * 2 + [4 * c] * 2 + [4 * c] * 3 + [2 * c] * 3 + [c] * 3 + [4 * c]
    tensors = {
        "image_proj.proj.weight": random(TOKENS * CONTEXT, POOLED),
        "image_proj.proj.bias": random(TOKENS * CONTEXT),
        "image_proj.norm.weight": torch.ones(CONTEXT, dtype=DTYPES[setup.dtype]),
        "image_proj.norm.bias": torch.zeros(CONTEXT, dtype=DTYPES[setup.dtype]),
    }
    for k, width in enumerate(widths):
        tensors |= {f"ip_adapter.{2 * k + 1}.to_{which}_ip.weight": random(width, CONTEXT) for which in "kv"}
    return tensors


def picture(setup: Setup, number: int) -> Image.Image:
    """A hint: a ring on a slope of grey."""
    ramp = np.linspace(0, 255, setup.side, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp, (setup.side, setup.side)).copy()).convert("RGB")
    edge = setup.side // (3 + number)
    ImageDraw.Draw(image).ellipse((edge, edge, 2 * edge, 2 * edge), outline="red", width=3)
    return image


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
