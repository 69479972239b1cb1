"""Motion modules with random weights for a UNet, written to a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sigmagraft.animate.files import diffusers_name
from sigmagraft.animate.network import MIDDLE, ModuleSizes, Motion, MotionConfig, places
from sigmagraft.core.unet_config import UNetConfig


def random_motion(
    path: Path, unet: UNetConfig, length: int = 24, middle: bool = True, seed: int = 0, **metadata: str
) -> Path:
    torch.manual_seed(seed)
    sizes = {
        place: ModuleSizes(width, length)
        for place, (_, width) in places(unet).items()
        if middle or place != MIDDLE
    }
    network = Motion(MotionConfig(sizes))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    tensors = {diffusers_name(name): value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, path, metadata or None)
    return path
