"""UNet2DConditionModel and AutoencoderKL: our UNet and VAE as users of diffusers call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.errors import FileError, OptionError
from ..core.family import Identity, identify
from ..core.fill import Filler
from ..core.keymap import inverse, rename, unet_table, vae_table
from ..core.parts import shapes
from ..core.patch import Hooks
from ..core.unet_config import UNetConfig, with_heads
from ..schedulers.draw import Generators, randn
from ..standalone.conditioning import sinusoids
from ..standalone.configs import FLAT, unet_config, vae_config
from ..standalone.lora_stack import Loras
from ..standalone.memory import memory_format
from ..standalone.source import Source, open_source
from ..standalone.unet import UNet
from ..standalone.vae import VAE, VAEConfig
from .component import Component, folder_config
from .output import ModelOutput, Output

CPU = torch.device("cpu")
T = TypeVar("T")


class UNet2DConditionModel(Component):
    """The UNet of SD1, SD2 and SDXL: predicts the noise (or velocity, or x0) of a latent, given a text context."""

    folder = "unet"
    network: UNet
    loras: Loras | None = None  # those on it, the same for every pipeline that shares it

    @classmethod
    def load(cls, path: Path, variant: str | None, dtype: torch.dtype) -> UNet2DConditionModel:
        found = _opened(path, variant, "unet", "a UNet")
        said = folder_config(path)
        sizes = with_heads(UNetConfig.from_shapes(shapes(found.parts.unet)), said)
        with Filler(dtype, CPU) as filler:
            network = filler.build(lambda: UNet(sizes), found.parts.unet, "UNet")
        return cls(network, said or unet_config(sizes, 64))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        vector: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> ModelOutput | tuple[Tensor]:
        """sample [b, c, h, w], timestep a number or [b], encoder_hidden_states [b, n, width] -> [b, out, h, w].

        `added_cond_kwargs`, SDXL's: text_embeds [b, p] and time_ids [b, 5 or 6]; or the `vector` [b, adm] made of them.
        `hooks` answer adapters' patches.
        """
        refuse_attention_arguments(cross_attention_kwargs)
        times = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).expand(len(sample))
        if added_cond_kwargs is not None:
            vector = self._vector(added_cond_kwargs)
        x = sample.contiguous(memory_format=memory_format(self.network))
        output = self.network(x, times, encoder_hidden_states, vector, hooks)
        return ModelOutput(output) if return_dict else (output,)

    def _vector(self, added: dict[str, Tensor]) -> Tensor:
        pooled = added["text_embeds"]
        sizes = [sinusoids(row.tolist()) for row in added["time_ids"]]
        return torch.cat([pooled, torch.stack(sizes).to(pooled)], dim=-1)

    @cached_property
    def identity(self) -> Identity:
        """Its family and task."""
        return identify({name: tuple(value.shape) for name, value in self.network.state_dict().items()})

    def named_tensors(self) -> dict[str, Tensor]:
        return self.diffusers_names(self.network.state_dict())

    def diffusers_names(self, of: Mapping[str, T]) -> dict[str, T]:
        """What belongs to LDM names, by diffusers' names."""
        c: UNetConfig = self.network.config
        attention = [bool(depth) for depth in c.transformer_depth]
        table = unet_table(c.num_res_blocks, attention, bool(c.transformer_depth_middle))
        return rename(of, inverse(table))[0]


def refuse_attention_arguments(given: dict[str, Any] | None) -> None:
    """Raises OptionError for cross_attention_kwargs other than `scale`, the weight of LoRAs."""
    unknown = sorted(set(given or ()) - {"scale"})
    if unknown:
        raise OptionError(
            f"cross_attention_kwargs with {unknown[0]!r}", expected="scale, the weight of LoRAs"
        )


@dataclass
class DiagonalGaussian:
    """N(mean, std^2) of every latent number."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        """exp(logvar / 2)."""
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: Generators = None) -> Tensor:
        """mean + std * noise."""
        return self.mean + self.std * randn(self.mean.shape, generator, self.mean.device, self.mean.dtype)

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean


@dataclass
class AutoencoderKLOutput(Output):
    """What encoding gives."""

    latent_dist: DiagonalGaussian


class AutoencoderKL(Component):
    """The autoencoder: encode(pixels).latent_dist, decode(latents).sample; latents not scaled."""

    folder = "vae"
    network: VAE

    @classmethod
    def load(cls, path: Path, variant: str | None, dtype: torch.dtype) -> AutoencoderKL:
        found = _opened(path, variant, "vae", "a VAE")
        said = folder_config(path)
        sizes = VAEConfig.from_shapes(shapes(found.parts.vae))
        with Filler(dtype, CPU) as filler:
            network = filler.build(lambda: VAE(sizes), found.parts.vae, "VAE")
        return cls(network, said or vae_config(sizes, 0.18215))

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussian]:
        """Pixels [b, 3, H, W] in [-1, 1] -> the posterior over latents [b, z, h, w]."""
        posterior = self.posterior(x)
        return AutoencoderKLOutput(posterior) if return_dict else (posterior,)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """What `encode` gives, bare."""
        return DiagonalGaussian(*self.network.encode(x))

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: Generators = None
    ) -> ModelOutput | tuple[Tensor]:
        """Latents [b, z, h, w] -> pixels [b, 3, H, W] in [-1, 1]."""
        pixels = self.network.decode(z)
        return ModelOutput(pixels) if return_dict else (pixels,)

    def forward(self, sample: Tensor) -> ModelOutput | tuple[Tensor]:
        """decode(the mean of encode(sample))."""
        return self.decode(self.network.encode(sample)[0])

    def named_tensors(self) -> dict[str, Tensor]:
        c = self.network.config
        named = rename(self.network.state_dict(), inverse(vae_table(len(c.ch_mult), c.num_res_blocks)))[0]
        return {name: t.flatten(1) if name.endswith(FLAT) else t for name, t in named.items()}

    def enable_slicing(self) -> None:
        """Images are decoded one by one by every pipeline, so there is nothing to turn on."""

    def enable_tiling(self) -> None:
        """Tiles are taken where memory does not suffice for a whole image, so there is nothing to turn on."""

    disable_slicing = disable_tiling = enable_slicing


def _opened(path: Path, variant: str | None, part: str, what: str) -> Source:
    found = open_source(path, None, variant)
    if not getattr(found.parts, part):
        there = " and ".join(found.parts.names) or "nothing known"
        raise FileError(f"no {what.split()[-1]} in it, but {there}", path, expected=what)
    return found
