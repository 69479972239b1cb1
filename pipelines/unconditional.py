"""Pictures without a prompt: UNet2DModel, DDPMPipeline and DDIMPipeline, in pixel space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.checkpoint import open_weights
from ..core.entry import Entry
from ..core.errors import FileError
from ..core.fill import Filler
from ..schedulers.draw import randn
from ..standalone.folder import pick_weights
from ..standalone.latents import to_images
from . import arguments
from .base import DiffusionPipeline, Found, load_scheduler
from .component import Component, folder_config
from .loop import set_timesteps, step_arguments
from .output import ImagePipelineOutput, ModelOutput
from .pixel_unet import PixelUNet, PixelUNetConfig
from .pixels import check_output

Self = TypeVar("Self", bound="PixelPipeline")
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class UNet2DModel(Component):
    """The unconditional UNet: predicts the noise of a noisy picture at a timestep."""

    folder = "unet"
    network: PixelUNet

    @classmethod
    def load(cls, path: Path, variant: str | None, dtype: torch.dtype) -> UNet2DModel:
        said = folder_config(path)
        names = [file.name for file in path.iterdir()] if path.is_dir() else []
        chosen = pick_weights(names, variant)
        if not said or chosen is None:
            raise FileError("no config.json with weights beside it", path, "a folder of a UNet2DModel")
        sizes = PixelUNetConfig.of(said)
        with Filler(dtype, torch.device("cpu")) as filler:
            network = filler.build(
                lambda: PixelUNet(sizes), _named(open_weights(path / chosen)), "UNet2DModel"
            )
        return cls(network, said)

    def forward(
        self, sample: Tensor, timestep: Tensor | float, return_dict: bool = True
    ) -> ModelOutput | tuple[Tensor]:
        """sample [b, c, h, w], timestep a number or [b] -> [b, c, h, w]."""
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        output = self.network(sample, times)
        return ModelOutput(output) if return_dict else (output,)

    def named_tensors(self) -> dict[str, Tensor]:
        return self.network.state_dict()


def _named(tensors: Mapping[str, Entry]) -> dict[str, Entry]:
    """Attention's older names as the newer ones."""
    named = {}
    for name, entry in tensors.items():
        stem, _, last = name.rpartition(".")
        parent, _, part = stem.rpartition(".")
        if ".attentions." in name and part in OLD_ATTENTION:
            name = f"{parent}.{OLD_ATTENTION[part]}.{last}"
        named[name] = entry
    return named


class PixelPipeline(DiffusionPipeline):
    """Noise -> the scheduler's timesteps -> pictures."""

    parts = ("unet", "scheduler")

    def __init__(self, unet: UNet2DModel, scheduler: Any) -> None:
        super().__init__()
        self.unet, self.scheduler = unet, scheduler

    def __init_subclass__(cls, takes: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        arguments.calls(cls, takes, PixelPipeline.run)

    @classmethod
    def build(cls: type[Self], found: Found, components: dict[str, Any]) -> Self:
        inner, path = found.path / "unet", found.path
        loaded = {
            "unet": lambda: UNet2DModel.load(inner if inner.is_dir() else path, found.variant, found.dtype),
            "scheduler": lambda: load_scheduler(path),
        }
        return cls(
            **{name: components[name] if name in components else make() for name, make in loaded.items()}
        )

    @torch.no_grad()
    def run(self, call: SimpleNamespace) -> ImagePipelineOutput | tuple[Any]:
        """Draw `batch_size` pictures. OptionError for arguments that cannot work."""
        check_output(call.output_type)
        config = self.unet.config
        side = config["sample_size"]
        sides = (side, side) if isinstance(side, int) else tuple(side)
        shape = torch.Size((call.batch_size, config["in_channels"], *sides))
        x = randn(shape, call.generator, self.device, self.dtype)
        timesteps = set_timesteps(self.scheduler, call.num_inference_steps, self.device)
        further = step_arguments(self.scheduler, call.generator, getattr(call, "eta", 0.0))
        with self.offloaded(), self.progress_bar(len(timesteps)) as bar:
            for timestep in timesteps:
                output = self.unet(x, timestep, return_dict=False)[0]
                x = self.scheduler.step(output, timestep, x, **further, return_dict=False)[0]
                bar.update()
        images = _finished(x, call.output_type)
        return ImagePipelineOutput(images) if call.return_dict else (images,)


def _finished(x: Tensor, output_type: str) -> Any:
    if output_type == "latent":
        return x
    if output_type == "pil":
        return to_images(x)
    pixels = (x / 2 + 0.5).clamp(0, 1)
    return pixels if output_type == "pt" else pixels.cpu().permute(0, 2, 3, 1).float().numpy()


_RUN = {"batch_size": 1, "generator": None}
_OUT = {"output_type": "pil", "return_dict": True}


class DDPMPipeline(PixelPipeline, takes={**_RUN, "num_inference_steps": 1000, **_OUT}):
    """DDPM's ancestral sampling."""


class DDIMPipeline(PixelPipeline, takes={**_RUN, "eta": 0.0, "num_inference_steps": 50, **_OUT}):
    """DDIM, deterministic at eta 0."""
