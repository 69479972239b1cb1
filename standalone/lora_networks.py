"""A model's networks by the names that adapters use."""

from __future__ import annotations

from torch import nn

from ..loras.targets import MOTION, NETWORKS
from .model import Model


def networks_of(model: Model) -> dict[str, nn.Module]:
    """unet, text_encoder and, of SDXL, text_encoder_2; motion where motion modules are loaded."""
    motion = {} if model.motion is None else {MOTION: model.motion}
    return {"unet": model.unet, **dict(zip(NETWORKS[1:], model.texts, strict=False)), **motion}
