"""What the peers of benchmarks.lora are asked for, and the files both read: a random SDXL-shaped UNet, adapters."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sigmagraft.core.keymap import inverse, translate, unet_table
from sigmagraft.standalone.lora_targets import PUBLISHED
from sigmagraft.standalone.unet import UNet, UNetConfig

from .pipeline_peers import DTYPES

LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TABLE = unet_table((2, 2, 2), (False, True, True))
PATTERN = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Setup:
    """What both peers are asked for."""

    folder: str
    channels: int
    rank: int
    count: int
    device: str
    dtype: str
    busy: bool = False
    blocks: int = 10
    side: int = 16
    times: int = 3
    mapped: bool = False

    @property
    def context(self) -> int:
        """Width of the prompt's tokens: 2048 where there are 320 channels."""
        return self.channels * 32 // 5

    @property
    def depth(self) -> tuple[int, int, int]:
        """Transformer blocks of a level's attentions, those diffusers leaves out counted as one."""
        return 1, min(2, self.blocks), min(10, self.blocks)

    def file(self, number: int) -> Path:
        return Path(self.folder) / f"{self.rank}-{number}.safetensors"


def our_unet(setup: Setup) -> UNet:
    """Without weights."""
    with torch.device("meta"):
        return UNet(our_sizes(setup)).eval()


def our_sizes(setup: Setup) -> UNetConfig:
    """SDXL's, as narrow and shallow as is asked for."""
    sizes, _ = PUBLISHED["Stable Diffusion XL"]
    depth = (0, *setup.depth[1:])
    return replace(
        sizes,
        model_channels=setup.channels,
        context_dim=setup.context,
        num_heads=None,
        transformer_depth=depth,
        transformer_depth_middle=depth[-1],
    )


def fill(network: nn.Module, setup: Setup, name_of: Callable[[str], str]) -> None:
    """The same values under the same LDM name in both networks, small enough to stay finite."""
    network.to_empty(device=setup.device).to(DTYPES[setup.dtype]).requires_grad_(False)
    for name, value in network.named_parameters():
        start = zlib.crc32(name_of(name).encode()) % (1 << 19)
        some = PATTERN[start:].repeat(value.numel() // (1 << 19) + 1)[: value.numel()].reshape(value.shape)
        if value.ndim > 1:
            value.copy_(some * 0.7 * value[0].numel() ** -0.5)
        else:
            value.copy_(1.0 + 0.1 * some if name.endswith("weight") else 0.01 * some)


def model_file(setup: Setup) -> Path:
    """The UNet's weights under LDM names, made where they are not yet there."""
    from safetensors.torch import save_file

    path = Path(setup.folder) / f"model-{setup.dtype}.safetensors"
    if not path.exists():
        network = our_unet(replace(setup, device="cpu"))
        fill(network, replace(setup, device="cpu"), lambda name: name)
        save_file(network.state_dict(), path)
    return path


def adapter_file(setup: Setup, number: int) -> None:
    """A LoRA on every layer that trainers take for SDXL, in diffusers' names."""
    from safetensors.torch import save_file

    path = setup.file(number)
    if path.exists():
        return
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(number)
    table = inverse(TABLE)
    for name, value in our_unet(setup).named_parameters():
        stem = translate(table, name.removesuffix(".weight")) or ""
        if stem.endswith(LAYERS) and name.endswith("weight"):
            out, width = value.shape
            up, down = (torch.randn(s, generator=generator) for s in ((out, setup.rank), (setup.rank, width)))
            tensors[f"unet.{stem}.lora_A.weight"] = (down * width**-0.5).half()
            tensors[f"unet.{stem}.lora_B.weight"] = (up * 0.1 * setup.rank**-0.5).half()
    save_file(tensors, path)
