"""What loading gives and everything else takes: the networks of one checkpoint and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from .text import TextEncoder
from .unet import UNet
from .vae import VAE

if TYPE_CHECKING:
    from ..animate.network import Motion
    from .offload import Offload
    from .tokens import Tokenizer

Family = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Task = Literal["base", "inpaint", "depth"]
Prediction = Literal["eps", "v", "x0", "flow", "edm"]


@dataclass
class ModelInfo:
    """What kind of model a file holds, and why we think so (``reasons``, one plain sentence each)."""

    family: Family
    task: Task = "base"
    prediction: Prediction = "eps"
    zero_snr: bool = False
    shift: float | None = None  # of a rectified-flow model's timesteps
    sigma_min: float | None = None  # of an EDM model
    sigma_max: float | None = None
    latent_channels: int = 4
    native_size: int = 512  # pixels on a side the model was trained at
    reasons: list[str] = field(default_factory=list)


@dataclass
class Model:
    """The networks of one checkpoint, on one device in one dtype, ready to run."""

    unet: UNet
    vae: VAE
    texts: list[TextEncoder]
    info: ModelInfo
    source: str
    dtype: torch.dtype
    device: torch.device
    # The UNet sees (VAE latent - shift_factor) * scale_factor; [1, channels, 1, 1] where each channel has its own.
    scale_factor: float | torch.Tensor = 0.18215
    shift_factor: float | torch.Tensor = 0.0
    tokenizer: Tokenizer | None = None  # a folder's own; None is CLIP's
    motion: Motion | None = None  # motion modules on the UNet, which act in clips alone
    offload: Offload | None = None  # what brings the networks to `device` as they run

    @property
    def home(self) -> torch.device:
        """Where weights are put when they are loaded: the device, or where they wait for it."""
        return self.device if self.offload is None else torch.device("cpu")
