"""What controls may ask of ComfyUI: sizes, live weights, noise and latents of the model that is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...controlnet.host import Host
from ...controlnet.strength import Timeline
from ...core.patch import StepInfo
from ..control_config import config_of
from ..control_run import no_vae
from . import comfy

PIXELS = 8  # of a latent's pixel, where a latent format says nothing


def host_of(
    guider: Any, sigmas: Sequence[float], noise: Tensor, seed: int | None, evaluate: Callable[..., None]
) -> Host:
    """The Host of one walk."""
    base = guider.inner_model

    def noised(latent: Tensor, info: StepInfo) -> Tensor:
        sigma = torch.tensor([info.sigma], device=latent.device)
        start = noise_for(noise, latent, seed)
        return base.model_sampling.calculate_input(
            sigma, base.model_sampling.noise_scaling(sigma, start, latent)
        )

    return Host(
        config=config_of(base.diffusion_model),
        timeline=Timeline(sigmas),
        factor=int(getattr(base.latent_format, "spacial_downscale_ratio", PIXELS)),
        weights=lambda: LiveWeights(guider.model_patcher),
        encode=no_vae,
        noised=noised,
        evaluate=evaluate,
    )


def noise_for(noise: Tensor, latent: Tensor, seed: int | None) -> Tensor:
    """The walk's start noise; one of the seed where it has none (a walk that goes on) or another size (an area)."""
    if noise.shape == latent.shape and noise.any():
        return noise.to(latent)
    generator = torch.Generator().manual_seed(int(seed or 0) % 2**63)
    return torch.randn(latent.shape, generator=generator).to(latent)


def encoder(base: Any, vae: Any) -> Callable[[Tensor], Tensor]:
    """Pixels [b, 3, H, W] in -1..1 -> latents as the UNet knows them, by a VAE of the host's."""
    management = comfy("model_management")

    def encode(pixels: Tensor) -> Tensor:
        loaded = management.loaded_models(only_currently_used=True)
        latent = vae.encode((pixels.movedim(1, -1) + 1) / 2)
        management.load_models_gpu(loaded)
        return base.process_latent_in(latent).to(pixels.device)

    return encode


def compute_dtype(base: Any) -> torch.dtype:
    """What the UNet computes in, whatever its weights are kept in."""
    return getattr(base, "manual_cast_dtype", None) or base.get_dtype()


class LiveWeights(Mapping[str, Tensor]):
    """The UNet's weights by LDM name as they act now: LoRAs included, merged by the host or not."""

    def __init__(self, patcher: Any) -> None:
        self.patcher = patcher
        self.tensors: dict[str, Tensor] = patcher.model.diffusion_model.state_dict()
        self.dtype = compute_dtype(patcher.model)

    def __getitem__(self, name: str) -> Tensor:
        key, weight = f"diffusion_model.{name}", self.tensors[name]
        if key not in self.patcher.patches or key in self.patcher.backup:
            return weight.to(self.dtype)
        weight = weight.to(self.patcher.load_device, torch.float32, copy=True)
        patched = comfy("lora").calculate_weight(self.patcher.patches[key], weight, key)
        return patched.to(self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
