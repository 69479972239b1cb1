"""What is known of a model beside its weights: prediction, training size, the scale of its latents, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.entry import Entry, Pages
from ..core.family import Family, Identity
from .model import ModelInfo
from .prediction import Evidence, Prediction, predict
from .source import Source

_FLUX_LATENT = (0.3611, 0.1159)  # scale and shift of the published 16-channel VAE (Flux's config.json)


def model_info(found: Source, identity: Identity, prediction: str | None, shift: float | None) -> ModelInfo:
    family, parts = identity.family, found.parts
    evidence = Evidence(
        family.name,
        identity.task,
        found.name,
        parts.markers,
        found.metadata,
        found.configs.get("scheduler", {}),
        parts.unet,
        identity.latent_channels,
    )
    guess = predict(evidence, prediction, shift)
    reasons = [*identity.reasons, *guess.reasons, *found.notes]
    if parts.unknown:
        few = ", ".join(parts.unknown[:3])
        reasons.append(f"{len(parts.unknown)} unknown tensors were not used, such as {few}")
    return ModelInfo(
        family=family.name,
        task=identity.task,
        prediction=guess.kind,
        zero_snr=guess.zero_snr,
        shift=guess.shift,
        sigma_min=guess.sigma_min,
        sigma_max=guess.sigma_max,
        latent_channels=identity.latent_channels,
        native_size=_native_size(found, family, guess),
        reasons=reasons,
    )


def _native_size(found: Source, family: Family, guess: Prediction) -> int:
    """Pixels on a side, from metadata (modelspec.resolution) or the UNet's config, else the family's own."""
    said = re.match(r"(\d+)x(\d+)", found.metadata.get("modelspec.resolution", ""))
    if said:
        return max(int(said[1]), int(said[2]))
    latent = found.configs.get("unet", {}).get("sample_size")
    if isinstance(latent, int):
        levels = sum(name.endswith(("downsample.conv.weight",)) for name in found.parts.vae)
        return latent * 2**levels
    return 768 if family.name == "sd2" and guess.kind == "v" else family.size


def latent_scale(
    found: Source, identity: Identity, info: ModelInfo, device: torch.device
) -> tuple[float | Tensor, float | Tensor]:
    """(scale, shift): the UNet sees (VAE latent - shift) * scale. From the VAE's config, marks, or the family."""
    config, marks = found.configs.get("vae", {}), found.parts.markers
    scale = config.get("scaling_factor")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return (float(scale or 1.0)) / _column(std, device), _column(mean, device)
    if "edm_mean" in marks and "edm_std" in marks:
        return 0.5 / _column(marks["edm_std"], device), _column(marks["edm_mean"], device)
    if scale is not None:
        return float(scale), float(config.get("shift_factor") or 0.0)
    if identity.latent_channels == 4:
        return identity.family.scale_factor, 0.0
    known = _FLUX_LATENT if identity.latent_channels == 16 else (1.0, 0.0)
    info.reasons.append(
        f"latent scale {known[0]:g}, shift {known[1]:g}: assumed for {identity.latent_channels} channels"
    )
    return known


def _column(values: Sequence[float] | Entry, device: torch.device) -> Tensor:
    """Per-channel numbers as [1, channels, 1, 1]."""
    found = Pages().tensor(values) if isinstance(values, Entry) else torch.tensor(values)
    return found.float().reshape(1, -1, 1, 1).clone().to(device)
