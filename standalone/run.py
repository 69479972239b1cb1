"""One call of the pipeline: a checked request encoded, sampled and decoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..core.adapters import Acting, hooks_of, networks
from ..core.errors import OptionError
from ..guidance.apply import Kin, open_kin
from ..samplers import Recording, SamplerSpec, recorded
from ..samplers.foreign import ForeignSpec, find_method
from ..samplers.guest import walk
from . import inpaint, latents
from .course import course_of
from .denoiser import Denoiser
from .fit_check import check_fit
from .guidance import guiding, rescaling
from .guidance_weight import weight_of
from .lora_run import following, put_in
from .noise_settings import noise_of_steps, start_noise
from .prompt_run import Speech
from .refiner import Denoise, refined
from .request import Request

if TYPE_CHECKING:
    from .pipeline import Pipeline


@dataclass(frozen=True)
class StepState:
    """One step: x as it was evaluated and the denoised latent found; tensors on the device, sigmas in floats."""

    index: int
    steps: int
    sigma: float
    sigma_next: float
    latent: Tensor
    denoised: Tensor
    elapsed: float  # seconds since sampling began, without waiting for the device


@dataclass(frozen=True)
class Result:
    """Finished pictures and what makes them again; of a run that was stopped no pictures, and the latents there."""

    images: list[Image.Image]
    seeds: list[int]
    settings: dict[str, Any]
    latents: Tensor


class Run:
    """The stages of one request on one model."""

    def __init__(
        self, pipe: Pipeline, request: Request, recording: Recording | None = None, stop_at: int | None = None
    ) -> None:
        self.model, self.levels, self.embeddings = pipe.model, pipe.levels, pipe.embeddings
        self.request = request
        self.spec = find_method(request.sampler)
        check_fit(self.spec, self.model, request)
        self.recording, self.stop_at = recording, stop_at
        self.course = course_of(request, self.spec, self.levels, self.model)
        self.sigmas = self.course.sigmas
        self.controls = pipe.controls
        self.adapters: list[Acting] = [*pipe.ip_adapters.for_run(request, self.sigmas)]
        own = pipe.ip_adapters.loras(request, pipe.loras)
        self.loras, self.lora_hashes = pipe.loras, put_in(pipe.loras, request, pipe.embeddings, own)
        factor = self.model.vae.factor
        shape = (self.model.info.latent_channels, request.height // factor, request.width // factor)
        self.noise = start_noise(request, shape, self.model.device)
        self.speech = Speech(self.model, request, pipe.embeddings)
        self.refiner = pipe.refiner(request.refiner) if request.refiner is not None else None
        self.region = self._region()

    def result(
        self, callback: Callable[[StepState], None] | None, decoded: Callable[[int], None] | None
    ) -> Result:
        """Runs all stages."""
        x = self.sample(callback)
        settings = {**self.request.settings(), "model": Path(self.model.source).name}
        settings |= {"lora_hashes": self.lora_hashes} if self.lora_hashes else {}
        if self.recording is not None and self.recording.at is not None:
            self.recording.facts["settings"] = settings
            return Result([], self.request.seeds, settings, x)
        images = latents.decode(self.model, x, decoded)
        if self.region:
            images = [self.region.paste(image) for image in images]
        return Result(images, self.request.seeds, settings, x)

    def sample(self, callback: Callable[[StepState], None] | None = None) -> Tensor:
        """The finished latents [b, z, h, w]."""
        init = self._init_latent()
        start, course = self.start(), self.course
        share, scale = course.start
        end = walk(
            self._sampler(),
            self._denoise(init, start),
            start * scale if init is None else torch.add(init * share, start, alpha=scale),
            course.sigmas,
            levels=course.levels,
            noise=noise_of_steps(self.request, self.spec, self.noise, course, self.levels),
            options=course.options,
            callback=_reporter(callback, len(self.sigmas) - 1),
        )
        stopped = self.recording is not None and self.recording.at is not None
        return end if course.finish == 1.0 or stopped else end * course.finish

    def start(self) -> Tensor:
        """Unit noise that the walk begins with."""
        return self.noise.next()

    def denoiser(self) -> Denoiser:
        """The UNet as a denoiser, without adapters."""
        return Denoiser(self.model.unet, self.levels, self.model.info.prediction, self.model.dtype)

    def _sampler(self) -> SamplerSpec:
        if self.recording is None:
            return self.spec
        if isinstance(self.spec, ForeignSpec):
            raise OptionError(
                f"{self.spec.name} holds its own loop and cannot be stopped", todo="take a sampler of ours"
            )
        return recorded(self.spec, self.recording, self.stop_at)

    def _region(self) -> inpaint.Region | None:
        request = self.request
        if request.image is None or request.mask is None:
            return None
        size = (request.width, request.height)
        region = inpaint.region(request.image, request.mask, size, request.mask_blur, request.only_masked)
        return region.softened() if request.soft else region

    def _init_latent(self) -> Tensor | None:
        """The image's scaled latent [1, z, h, w]; with a mask, of the region that is repainted."""
        if self.request.second is not None:
            return self.request.second.latents
        image = self.region.image if self.region else self.request.image
        return None if image is None else self._encode(latents.to_tensor(self._fitted(image)))

    def _fitted(self, image: Image.Image) -> Image.Image:
        size = (self.request.width, self.request.height)
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

    def _encode(self, pixels: Tensor) -> Tensor:
        return latents.encode(self.model, pixels).to(self.model.device)

    def _noised(self, init: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """The image at ``sigma``: alpha * init + sigma * noise."""
        return torch.add(init * self.levels.alpha(sigma), noise, alpha=sigma)

    def _denoise(self, init: Tensor | None, start: Tensor) -> Denoise:
        """Denoiser and guidance on the encoded prompts; with a mask, what lies outside it held to the image."""
        denoiser = self.denoiser()
        denoiser.told = self.course.told
        denoiser.concat = self._inpainting_channels()
        adapters = [*self.adapters, *self.controls.for_run(self, start)]
        if (offload := self.model.offload) is not None:
            offload.beside(self.model.unet, "adapter", networks(adapters))
        denoiser.hooks = following(self.loras, hooks_of(adapters), self.sigmas)
        begin = len(self.recording.answers) if self.recording is not None else 0
        denoise = self._guided(denoiser, self.speech, begin)
        if self.refiner is not None:
            denoise = refined(self, denoise, self.refiner, begin)
        return (
            denoise if self.region is None or init is None else self._kept(denoise, self.region, init, start)
        )

    def _guided(self, denoiser: Denoiser, speech: Speech, done: int) -> Denoise:
        """Guidance on a denoiser, after so many evaluations of the walk."""
        request = self.request
        weight = weight_of(request, self.spec, self.sigmas, self.levels, self.course.options, done)
        told = speech.told(self.sigmas, self.spec.name, done)
        if weight == 0.0 and not speech.alone:
            weight = 1.0  # no guidance: the parts of a prompt add up as they are
        return guiding(denoiser, told, weight, self._kin(denoiser), self.sigmas)

    def guided_by(self, other: Pipeline, done: int) -> Denoise:
        """The same by another model, without adapters."""
        model = other.model
        denoiser = Denoiser(model.unet, other.levels, model.info.prediction, model.dtype)
        denoiser.told = self.course.told
        return self._guided(denoiser, Speech(model, self.request, other.embeddings), done)

    def _kept(self, denoise: Denoise, region: inpaint.Region, init: Tensor, start: Tensor) -> Denoise:
        """What lies outside the mask held to the image."""
        noised, size = partial(self._noised, init, start), init.shape[-2:]
        if not self.request.soft:
            mask = inpaint.latent_mask(region.mask, *size).to(init.device)
            return inpaint.KeepOutside(denoise, mask, init, noised)
        share = inpaint.share_of_time(self.levels.timestep, self.sigmas)
        mask = inpaint.soft_mask(region.mask, *size).to(init.device)
        return inpaint.Differential(denoise, mask, init, noised, share)

    def _kin(self, denoiser: Denoiser) -> list[Kin]:
        """What changes how the prompt pulls. OptionError where it cannot be stopped with the run."""
        chosen = self.request.kin
        if self.recording is not None and (one := next((c for c in chosen if c.remembers), None)):
            what = f"guidance {one.text} goes by earlier steps, which a run that is stopped does not keep"
            raise OptionError(what, todo="do not stop the run, or set what remembers to 0")
        share = self.request.cfg_rescale
        return open_kin([*chosen, *([rescaling(share)] if share else [])], denoiser.setting)

    def _inpainting_channels(self) -> Tensor | None:
        """[1, 5, h, w]: the mask and the latent of the image with the masked part grey; without a mask, all masked."""
        task, request = self.model.info.task, self.request
        if task == "base":
            return None
        if task == "depth":
            raise OptionError(
                "this model draws from a depth map, which is not supported yet", where=self.model.source
            )
        size = (request.width, request.height)
        image = self.region.image if self.region else Image.new("RGB", size)
        mask = self.region.mask if self.region else Image.new("L", size, 255)
        keep = inpaint.pixel_mask(mask).lt(0.5).float()
        masked = self._encode(latents.to_tensor(image) * keep)
        small = torch.nn.functional.interpolate(1 - keep, size=masked.shape[-2:], mode="nearest")
        return torch.cat([small.to(masked.device), masked], dim=1)


def _reporter(
    callback: Callable[[StepState], None] | None, steps: int
) -> Callable[[dict[str, Any]], None] | None:
    """The sampler's per-step dictionary as a StepState."""
    if callback is None:
        return None
    began = time.perf_counter()

    def report(state: dict[str, Any]) -> None:
        elapsed = time.perf_counter() - began
        x, denoised = state["x"], state["denoised"]
        callback(StepState(state["i"], steps, state["sigma"], state["sigma_next"], x, denoised, elapsed))

    return report
