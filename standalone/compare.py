"""Samplers side by side on one prompt and seed: what each costs and how far it ends from a fine reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import SigmaGraftError
from ..samplers.cost import most_steps
from . import latents
from .memory import memory_errors
from .pipeline import Pipeline
from .prompt_run import Known
from .request import Request
from .run import Run
from .steps import sigmas_of
from .ways import Way


@dataclass(frozen=True)
class Entry:
    """One walk. `distance` is the RMS of the latents' difference to the reference over the reference's own RMS."""

    way: Way
    column: str
    steps: int
    evaluations: int = 0
    seconds: float = 0.0
    distance: float = math.nan
    psnr: float = math.nan  # dB, of the 8-bit pictures; inf where they are equal
    image: Image.Image | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything but the picture; null for a number that there is not."""
        numbers = {name: getattr(self, name) for name in ("distance", "psnr", "seconds")}
        return {
            "sampler": self.way.sampler,
            "schedule": self.way.schedule or self.way.spec.default_schedule or "own",
            "options": dict(self.way.options),
            "schedule_options": dict(self.way.schedule_options),
            "stochastic": self.way.stochastic,
            "steps": self.steps,
            "evaluations": self.evaluations,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "error": self.error or None,
        }


@dataclass(frozen=True)
class Drawn:
    """A finished walk."""

    latents: Tensor
    evaluations: int
    seconds: float


class Comparison:
    """Walks of one prompt, seed and size: the text is encoded once and every walk starts from the same noise.

    `settings` are those of `Pipeline.__call__` without sampler, schedule, steps and options.
    """

    def __init__(self, pipe: Pipeline, prompt: str, settings: Mapping[str, Any], reference: Entry) -> None:
        self.pipe, self.prompt, self.settings = pipe, prompt, dict(settings)
        self.asked = reference
        self._known: Known = {}

    @cached_property
    def reference(self) -> Entry:
        """The fine walk that all are measured against, with its picture."""
        drawn = self._walk(self.asked.way, self.asked.steps)
        self._latents = drawn.latents
        return replace(
            self.asked,
            evaluations=drawn.evaluations,
            seconds=drawn.seconds,
            image=self._picture(drawn.latents),
        )

    def entry(self, way: Way, steps: int | None, column: str) -> Entry:
        """One walk; what cannot be walked has the reason in `error`."""
        reference = self.reference
        if steps is None:
            return Entry(way, column, 0, error="one step already takes more evaluations")
        try:
            drawn = self._walk(way, steps)
        except SigmaGraftError as error:
            return Entry(way, column, steps, error=str(error))
        image = self._picture(drawn.latents)
        assert reference.image is not None  # the reference has been drawn
        return Entry(
            way,
            column,
            steps,
            drawn.evaluations,
            drawn.seconds,
            relative(drawn.latents, self._latents),
            psnr(image, reference.image),
            image,
        )

    def steps_for(self, way: Way, evaluations: int) -> int | None:
        """The most steps that take no more than so many evaluations; None if a single one takes more."""

        def sigmas(steps: int) -> list[float]:
            return sigmas_of(self._request(way, steps), way.spec, self.pipe.levels, self.pipe.info)

        return most_steps(way.spec, sigmas, evaluations, self.pipe.levels, dict(way.options))

    def _request(self, way: Way, steps: int) -> Request:
        own = {
            "sampler": way.sampler,
            "options": dict(way.options),
            "schedule": way.schedule or None,
            "schedule_options": dict(way.schedule_options) or None,
            "steps": steps,
        }
        request = Request.of(self.prompt, {**self.settings, **own})
        request.resolve(self.pipe.info, self.pipe.model.vae.factor)
        return request

    @torch.inference_mode()
    def _walk(self, way: Way, steps: int) -> Drawn:
        request = self._request(way, steps)
        run = _Counted(self.pipe, request)
        run.speech.known = self._known
        with memory_errors(f"drawing {request.width}x{request.height}", self.pipe.model.device):
            run.speech.told(run.sigmas, run.spec.name)  # so that no way's time has the prompts in it
            began = time.perf_counter()
            x = run.sample().float().cpu()  # which waits for the device
        return Drawn(x, run.evaluations, time.perf_counter() - began)

    @torch.inference_mode()
    def _picture(self, x: Tensor) -> Image.Image:
        return latents.decode(self.pipe.model, x.to(self.pipe.model.device))[0]


class _Counted(Run):
    """A run that counts the evaluations its sampler asks for."""

    evaluations = 0

    def _denoise(self, init: Tensor | None, start: Tensor) -> Callable[[Tensor, float], Tensor]:
        denoise = super()._denoise(init, start)

        def counted(x: Tensor, sigma: float) -> Tensor:
            self.evaluations += 1
            return denoise(x, sigma)

        return counted


def relative(x: Tensor, reference: Tensor) -> float:
    """RMS of the difference over RMS of the reference."""
    return ((x - reference).square().mean() / reference.square().mean()).sqrt().item()


def psnr(image: Image.Image, reference: Image.Image) -> float:
    """10 log10(255^2 / mean squared difference), dB; inf for equal pictures."""
    difference = np.asarray(image, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    error = float(np.mean(difference**2))
    return 10 * math.log10(255.0**2 / error) if error else math.inf
