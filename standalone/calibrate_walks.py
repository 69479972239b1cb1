"""The trajectories of a calibration: batches of prompts and seeds, the ends of the teacher, and a count of it all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..samplers import NoiseLevels, drive, schedule
from ..samplers.calibrate_fit import Trajectories
from ..samplers.calibrate_steps import Deviations
from ..samplers.drive import Denoise
from .request import Request
from .run import Run

if TYPE_CHECKING:
    from .pipeline import Pipeline

TEACHER = {False: ("dpmpp_2m", "exponential"), True: ("dpmpp_2m", "beta")}  # by whether it is rectified flow
Progress = Callable[[int, int], None]


@dataclass
class Count:
    """Evaluations of one image that are done, of so many as there will be about."""

    total: int = 0
    done: int = 0
    progress: Progress | None = None

    def add(self, images: int) -> None:
        self.done += images
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


@dataclass
class Batch:
    """Images that walk together."""

    denoise: Denoise
    noise: Tensor
    levels: NoiseLevels
    count: Count
    end: Tensor | None = field(default=None)

    @classmethod
    def of(cls, pipe: Pipeline, words: Sequence[str], seed: int, count: Count, **settings: Any) -> Batch:
        """A batch of these prompts; image k has seed + k. OptionError for a setting that cannot work."""
        request = Request.of(list(words), {**settings, "seed": seed, "batch": len(words)})
        request.resolve(pipe.info, pipe.model.vae.factor)
        run = Run(pipe, request)
        noise = run.noise.next()
        return cls(run._denoise(None, noise), noise, pipe.levels, count)  # the pipeline's own

    def start(self, sigma: float) -> Tensor:
        """x at this level, before anything is known."""
        return self.noise * math.hypot(self.levels.alpha(sigma), sigma)

    def counted(self, x: Tensor, sigma: float) -> Tensor:
        denoised = self.denoise(x, sigma)
        self.count.add(len(x))
        return denoised

    def trajectories(self, first: float) -> Trajectories:
        """The walks from this level to the teacher's end."""
        assert self.end is not None  # `teach` has walked
        return Trajectories(self.counted, self.start(first), self.end)


def teaching(levels: NoiseLevels, steps: int) -> tuple[str, list[float]]:
    """The teacher's sampler and its levels."""
    sampler, name = TEACHER[levels.is_flow]
    return sampler, schedule(name, steps, levels)


def teach(batch: Batch, steps: int, deviations: Deviations | None = None) -> None:
    """Walk to the teacher's end, looking for `deviations` on the way. Raises NonFiniteError for NaN."""
    sampler, sigmas = teaching(batch.levels, steps)
    see, finish = deviations.seeing() if deviations else (None, lambda end: None)
    batch.end = drive(
        sampler, batch.counted, batch.start(sigmas[0]), sigmas, levels=batch.levels, callback=see
    )
    finish(batch.end)


def seconds_each(batch: Batch) -> float:
    """Seconds that the evaluation of one image takes, the first one left out."""
    sigma = batch.levels.sigma_max
    x = batch.start(sigma)
    batch.denoise(x, sigma).float().sum().item()  # the first prepares
    began = time.perf_counter()
    batch.denoise(x, sigma).float().sum().item()  # which waits for the device
    return (time.perf_counter() - began) / len(x)
