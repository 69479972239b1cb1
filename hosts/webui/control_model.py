"""A web UI's loaded model as controls need it: its UNet, what it computes in, its sigmas, its VAE."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...controlnet.host import Host
from ...controlnet.strength import Timeline
from ...core.patch import StepInfo
from ..control_config import config_of
from .model import is_flow

PIXELS = 8  # of a latent's pixel


def patcher_of(p: Any) -> Any | None:
    """The UNet's ModelPatcher in the Forges; None in Automatic1111."""
    return getattr(getattr(p.sd_model, "forge_objects", None), "unet", None)


def unet_of(p: Any) -> nn.Module:
    """The UNet itself."""
    patcher = patcher_of(p)
    return (p.sd_model if patcher is None else patcher).model.diffusion_model


def dtype_of(p: Any) -> torch.dtype:
    """What the UNet computes in, whatever its weights are kept in."""
    patcher = patcher_of(p)
    if patcher is None:
        from modules import devices

        return getattr(devices, "dtype_inference", None) or devices.dtype_unet
    model = patcher.model
    found = getattr(model, "computation_dtype", None) or getattr(model, "manual_cast_dtype", None)
    return found or model.diffusion_model.dtype


def device_of(p: Any) -> torch.device:
    """Where it computes."""
    patcher = patcher_of(p)
    if patcher is not None:
        return torch.device(patcher.load_device)
    from modules import devices

    return torch.device(devices.device)


@dataclass(frozen=True)
class Levels:
    """The sigmas of a host's denoiser, 0 to 999."""

    table: Tensor
    flow: bool

    @classmethod
    def of(cls, p: Any, inner: Any) -> Levels:
        """Of what the hosts call inner_model; under samplers of timesteps it has none, so the UNet's model is asked."""
        model = getattr(patcher_of(p), "model", None)
        sources: Any = (inner, getattr(model, "predictor", None), getattr(model, "model_sampling", None))
        table = next((one.sigmas for one in sources if getattr(one, "sigmas", None) is not None), None)
        if table is None:
            kept = inner.inner_model.alphas_cumprod.double().cpu()
            table = ((1 - kept) / kept).sqrt()
        return cls(table.double().cpu(), is_flow(inner))

    def sigma(self, timestep: float) -> float:
        """Between two entries in the logarithm, as k-diffusion has it."""
        low = min(max(math.floor(timestep), 0), len(self.table) - 1)
        high = min(low + 1, len(self.table) - 1)
        a, b = self.table[low].log(), self.table[high].log()
        return float((a + (b - a) * (timestep - low)).exp())

    def noised(self, latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """What the network is given of a latent."""
        if self.flow:
            return latent * (1 - sigma) + noise * sigma
        return (latent + noise * sigma) / math.hypot(1.0, sigma)


def host_of(
    p: Any, levels: Levels, sigmas: Sequence[float], noise: Tensor, evaluate: Callable[..., None]
) -> Host:
    """What the controls of a walk may ask for."""
    unet = unet_of(p)

    def noised(latent: Tensor, info: StepInfo) -> Tensor:
        start = noise if noise.shape == latent.shape else _again(p, latent)
        return levels.noised(latent, start.to(latent), info.sigma)

    return Host(
        config=config_of(unet),
        timeline=Timeline(sigmas),
        factor=PIXELS,
        weights=lambda: _live(unet, dtype_of(p)),
        encode=lambda pixels: encoded(p, pixels),
        noised=noised,
        evaluate=evaluate,
    )


def _again(p: Any, latent: Tensor) -> Tensor:
    """Noise of the seeds for a latent of another size."""
    rows = [torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(int(s))) for s in p.seeds]
    return torch.stack([rows[k % len(rows)] for k in range(len(latent))])


def _live(unet: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights as they act now; Automatic1111 merges LoRAs into a layer when it is first called."""
    merge = getattr(sys.modules.get("networks"), "network_apply_weights", None)
    for module in unet.modules() if merge else ():
        if hasattr(module, "network_layer_name"):
            merge(module)  # type: ignore[misc]
    return {name: value.to(dtype) for name, value in unet.state_dict().items()}


def encoded(p: Any, pixels: Tensor) -> Tensor:
    """[b, 3, H, W] in -1..1 -> scaled latents; the posterior's mean, so that no seed is used up."""
    model, patcher = p.sd_model, patcher_of(p)
    if patcher is not None:
        latent = model.encode_first_stage(pixels.to(device_of(p)))
        _load_again(patcher)
        return latent.to(pixels)
    from modules import devices

    with torch.random.fork_rng(), devices.autocast():  # SDXL's draws from its posterior
        torch.manual_seed(0)
        found = model.encode_first_stage(pixels.to(devices.device, devices.dtype_vae))
    return (found if isinstance(found, Tensor) else found.mode() * model.scale_factor).to(pixels)


def _load_again(patcher: Any) -> None:
    """A host that is short of memory lets the UNet go for the VAE."""
    for name in ("backend.memory_management", "ldm_patched.modules.model_management"):
        management = sys.modules.get(name)
        if management is not None:
            management.load_models_gpu([patcher])
            return
