"""The tiny model of a real ComfyUI in the runner, with adapters for it."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from safetensors.torch import load_file

from sigmagraft.core.unet_config import UNetConfig
from sigmagraft.loras import Targets
from sigmagraft.loras.curve import place_of
from sigmagraft.samplers import NoiseLevels
from sigmagraft.standalone.lora_prompt import wanted
from sigmagraft.standalone.lora_stack import Loras
from sigmagraft.standalone.unet import UNet

from ..small_lora import write_files
from .served import Host, node


def write_tiny_loras(host: Host) -> UNet:
    """The tiny model's UNet in the runner, and adapters for it in models/loras."""
    told = host.run({"weights": node("TinyWeights")})
    assert told["status"]["status_str"] == "success", told["status"]
    weights = load_file(host.folder / "output" / "unet.safetensors")
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    unet = UNet(UNetConfig.from_shapes(shapes)).eval().requires_grad_(False)
    unet.load_state_dict(weights)
    write_files(host.folder / "models" / "loras", Targets.of(shapes))
    return unet


@torch.no_grad()
def euler_by_runner(
    unet: UNet, folder: Path, text: str, seed: int, sigmas: list[float], cfg: float
) -> torch.Tensor:
    """What KSampler draws of the tiny model, under the runner's own adapters."""
    loras = Loras(lambda: {"unet": unet})
    asked = wanted(text.split())
    loras.for_run([(loras.kept(folder / f"{one.source}.safetensors"), one.strength) for one in asked])
    torch.manual_seed(8)
    contexts = torch.cat([torch.randn(1, 7, 16) for _ in range(2)])
    table = torch.tensor(NoiseLevels.discrete().sigmas).log()
    x = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(seed)) * (1 + sigmas[0] ** 2) ** 0.5
    for sigma, after in itertools.pairwise(sigmas):
        loras.at(place_of(sigma, sigmas))
        t = (torch.tensor(sigma).log() - table).abs().argmin().expand(2).float()
        cond, uncond = unet(x.expand(2, -1, -1, -1) / (1 + sigma**2) ** 0.5, t, contexts).chunk(2)
        x = x + (uncond + cfg * (cond - uncond)) * (after - sigma)
    loras.clear()
    return x
