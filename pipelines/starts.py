"""Where the latents of a run start: noise, a picture, a picture with a mask, a picture with its depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..schedulers.draw import Generators, randn
from .loop import from_strength
from .models import DiagonalGaussian
from .pixels import to_batch, to_grey, to_mask

if TYPE_CHECKING:
    from .latent import LatentPipeline


@dataclass
class Start:
    """Latents at the first of `timesteps`; `channels` and `after` as the loop takes them."""

    latents: Tensor
    timesteps: Tensor
    channels: Tensor | None = None
    after: Callable[[Tensor, int], Tensor] | None = None


@dataclass
class Begin:
    """What every start is made from: one call on one pipeline, for `batch` images of `size` (height, width)."""

    pipe: LatentPipeline
    call: SimpleNamespace
    batch: int
    size: tuple[int, int]
    timesteps: Tensor

    @property
    def shape(self) -> torch.Size:
        """Of the latents."""
        model = self.pipe.model
        factor = model.vae.factor
        return torch.Size((self.batch, model.info.latent_channels, *(side // factor for side in self.size)))

    def noise(self) -> Tensor:
        """Unit noise from the caller's generators."""
        return randn(self.shape, self.call.generator, self.pipe.device, self.pipe.dtype)

    def encoded(self, pixels: Tensor) -> Tensor:
        """Scaled latents of pixels [b, 3, H, W], drawn from the posterior, for the whole batch."""
        model, vae = self.pipe.model, self.pipe.vae
        drawn = _sample(vae.posterior(pixels.to(vae.device, vae.dtype)), self.call.generator)
        scaled = (drawn.float() - model.shift_factor) * model.scale_factor
        return repeated(scaled.to(self.pipe.device, self.pipe.dtype), self.batch)

    def noised(self, latents: Tensor, noise: Tensor, index: int = 0) -> Tensor:
        """The scheduler's latents at a timestep of the run."""
        times = self.timesteps[index : index + 1].expand(len(latents))
        return self.pipe.scheduler.add_noise(latents, noise, times)


def _sample(posterior: DiagonalGaussian, generator: Generators) -> Tensor:
    """A draw; one picture for several generators is drawn by the first of them."""
    if isinstance(generator, Sequence) and len(posterior.mean) < len(generator):
        return posterior.sample(generator[0])
    return posterior.sample(generator)


def repeated(rows: Tensor, batch: int) -> Tensor:
    """[n, ...] -> [batch, ...]. OptionError where n does not divide the batch."""
    if batch % len(rows):
        raise OptionError(
            f"{len(rows)} pictures for {batch} images", expected="one, or as many as there are prompts"
        )
    return rows if len(rows) == batch else torch.cat([rows] * (batch // len(rows)))


def from_noise(begin: Begin) -> Start:
    """The caller's latents, or noise, of the deviation that the scheduler starts with."""
    given = begin.call.latents
    if given is not None and given.shape != begin.shape:
        raise OptionError(f"latents of shape {tuple(given.shape)}", expected=str(tuple(begin.shape)))
    noise = begin.noise() if given is None else given.to(begin.pipe.device)
    return Start(noise * begin.pipe.scheduler.init_noise_sigma, begin.timesteps)


def from_image(begin: Begin) -> Start:
    """The picture's latents, noised to where `strength` starts; with `denoising_start` as they are."""
    call = begin.call
    handed_over = getattr(call, "denoising_start", None)
    if handed_over is None:
        begin.timesteps = from_strength(begin.pipe.scheduler, call.num_inference_steps, call.strength)
    else:
        begin.timesteps = _handed_over(begin.pipe.scheduler, handed_over)
    latents = picture_latents(begin)
    return Start(
        latents if handed_over is not None else begin.noised(latents, begin.noise()), begin.timesteps
    )


def from_map(begin: Begin) -> Start:
    """Differential diffusion (arXiv:2306.00950): step i of n begins with the picture, noised, where map > i / n.

    The picture and the noise are drawn twice and the second counts, as in diffusers' community pipeline of this name,
    so that a seed gives its pictures.
    """
    call = begin.call
    if call.map is None:
        raise OptionError("no map", type(begin.pipe).__name__, "map=, a grey picture, white where all stays")
    if getattr(call, "denoising_start", None) is not None:
        raise OptionError(
            "map with denoising_start", type(begin.pipe).__name__, todo="leave out one of the two"
        )
    from_image(begin)
    if call.original_image is not None:
        call.image = call.original_image
    steps, picture, noise = begin.timesteps, picture_latents(begin), begin.noise()
    stays = repeated(to_grey(call.map, *begin.size), begin.batch).to(picture)
    small = torch.nn.functional.interpolate(stays, size=picture.shape[-2:], mode="bilinear")

    def after(latents: Tensor, index: int) -> Tensor:
        if index + 1 == len(steps):
            return latents
        kept = begin.noised(picture, noise, index + 1)
        return torch.where(small > (index + 1) / len(steps), kept, latents)

    return Start(begin.noised(picture, noise), steps, after=after)


def picture_latents(begin: Begin) -> Tensor:
    """Latents of the call's picture; a tensor of as many channels as latents have is taken as latents."""
    image = begin.call.image
    if image is None:
        raise OptionError("no image", type(begin.pipe).__name__, "image=, a picture or its latents")
    if isinstance(image, Tensor) and image.ndim == 4 and image.shape[1] == begin.shape[1]:
        return repeated(image.to(begin.pipe.device, begin.pipe.dtype), begin.batch)
    return begin.encoded(to_batch(image, *begin.size))


def _handed_over(scheduler: Any, start: float) -> Tensor:
    """The timesteps below 1 - `start` of the training range, where another model stopped (`denoising_end`)."""
    cutoff = cutoff_of(scheduler, start)
    left = int((scheduler.timesteps < cutoff).sum())
    left += scheduler.order == 2 and left % 2 == 0
    first = len(scheduler.timesteps) - left
    if not left:
        raise OptionError(f"denoising_start {start:g} leaves no step", expected="0 to below 1")
    scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def cutoff_of(scheduler: Any, fraction: float) -> int:
    """The timestep at this fraction of the way. OptionError outside 0 to 1."""
    if not 0.0 <= fraction <= 1.0:
        raise OptionError(f"a hand-over at {fraction:g}", expected="0 to 1")
    count = scheduler.config.num_train_timesteps
    return round(count - fraction * count)


def from_mask(begin: Begin) -> Start:
    """Inpainting: noise where the mask is white; elsewhere the picture, noised anew after each step.

    A UNet of nine channels is given the mask and the picture without the masked part instead.
    """
    call, pipe = begin.call, begin.pipe
    for name in ("image", "mask_image"):
        if getattr(call, name) is None:
            raise OptionError(
                f"no {name}", type(pipe).__name__, "a picture and a mask, white where it is repainted"
            )
    begin.timesteps = from_strength(pipe.scheduler, call.num_inference_steps, call.strength)
    nine = pipe.model.unet.config.in_channels == 9
    pixels, mask = to_batch(call.image, *begin.size), to_mask(call.mask_image, *begin.size)
    picture = None if nine and call.strength == 1.0 else begin.encoded(pixels)
    noise = begin.noise() if call.latents is None else call.latents.to(pipe.device)
    latents = noise * pipe.scheduler.init_noise_sigma
    if call.strength < 1.0 and call.latents is None and picture is not None:
        latents = begin.noised(picture, noise)
    masked = begin.encoded(pixels * (mask < 0.5))
    small = repeated(torch.nn.functional.interpolate(mask, size=masked.shape[-2:]).to(masked), begin.batch)
    if nine:
        return Start(latents, begin.timesteps, torch.cat([small, masked], dim=1))
    assert picture is not None
    return Start(latents, begin.timesteps, after=_kept_outside(begin, small, picture, noise))


def _kept_outside(
    begin: Begin, mask: Tensor, picture: Tensor, noise: Tensor
) -> Callable[[Tensor, int], Tensor]:
    last = len(begin.timesteps) - 1

    def after(latents: Tensor, index: int) -> Tensor:
        outside = picture if index == last else begin.noised(picture, noise, index + 1)
        return (1 - mask) * outside + mask * latents

    return after
