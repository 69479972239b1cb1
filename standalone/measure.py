"""Measuring the statistics of a loaded model, which DPM-Solver-v3 goes by, along the trajectories of prompts.

Not called statistics.py: `python standalone` would find it in the place of the standard library's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from ..samplers.model_statistics import ModelStatistics
from ..samplers.statistics_estimate import DEGREE, ROWS, Estimator
from .fit_check import fingerprint
from .memory import memory_errors
from .model import Model
from .request import Request
from .run import Run

if TYPE_CHECKING:
    from .pipeline import Pipeline

Progress = Callable[[int, int], None]
SCENES = (
    "a large red circle on a blue background",
    "a small green star on a white background",
    "a yellow square to the left of a purple heart on a black background",
    "a cyan ring above an orange triangle on a pink background",
    "a medium black cross at the top right on a yellow background",
    "a pink diamond on a green background",
    "a small white circle in front of a large blue square on a red background",
    "an orange heart at the bottom on a cyan background",
)
PROMPTS = (
    "a photo of a fishing village in the morning mist",
    "portrait of an old woman with a red scarf, natural light",
    "a bowl of ripe cherries on a wooden table, close up",
    "watercolour painting of a mountain lake in autumn",
    "a city street at night in the rain, neon reflections",
    "an astronaut riding a horse, oil painting",
    "a tabby cat asleep on a stack of books",
    "wide view of sand dunes under a clear blue sky",
    "a modern living room with large windows and plants",
    "a steam train crossing a stone bridge, detailed illustration",
    "macro photo of a dragonfly on a blade of grass",
    "a medieval castle on a cliff above a stormy sea",
)


def draws_scenes(source: str) -> bool:
    """Whether this is the bundled model, which draws scenes alone."""
    return source == "bundled" or source.endswith("scenes.safetensors")


def measure(
    pipe: Pipeline,
    prompts: Sequence[str] = (),
    *,
    count: int = 32,
    batch: int = 4,
    positions: bool = False,
    rows: int = ROWS,
    progress: Progress | None = None,
    **settings: Any,
) -> ModelStatistics:
    """The statistics of a model over `count` trajectories, on `prompts` in turn (none: some of ours).

    `settings` are those of `Pipeline.__call__`: negative, cfg, cfg_rescale, size, seed. About 6 evaluations at each
    of `rows` levels for every image. `progress` is told (levels measured, all). OptionError, OutOfMemory.
    """
    if settings.get("guidance", "cfg") != "cfg":
        raise OptionError(f"statistics with guidance {settings['guidance']}", expected="cfg")
    said = list(prompts) or list(SCENES if draws_scenes(pipe.model.source) else PROMPTS)
    estimator = Estimator(
        pipe.levels,
        rows=rows,
        degree=min(DEGREE, rows // 2),
        positions=positions,
        network=pipe.model.dtype,
    )
    seed = settings.pop("seed", 0)
    batches = [range(first, min(first + batch, count)) for first in range(0, count, batch)]
    request = None
    for number, images in enumerate(batches):
        words = [said[k % len(said)] for k in images]
        request = Request.of(words, {**settings, "seed": seed + images[0], "batch": len(images)})
        request.resolve(pipe.info, pipe.model.vae.factor)
        told = _counted(progress, number, len(batches))
        with memory_errors("measuring statistics", pipe.model.device), torch.no_grad():
            _add(estimator, Run(pipe, request), told)
    if request is None:
        raise OptionError(f"count {count}", expected="at least 1")
    return estimator.result(_facts(pipe.model, request))


def _counted(progress: Progress | None, number: int, batches: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, rows: progress(number * rows + done, batches * rows)


def _add(estimator: Estimator, run: Run, progress: Progress | None) -> None:
    sigma, levels = run.levels.sigma_max, run.levels
    start = run.noise.next() * math.hypot(levels.alpha(sigma), sigma)
    estimator.add(run._denoise(None, start), start, progress)  # the pipeline's own


def _facts(model: Model, request: Request) -> dict[str, Any]:
    info = model.info
    return {
        "model": model.source,
        "family": info.family,
        "prediction": info.prediction,
        "zero_snr": info.zero_snr,
        "shift": info.shift,
        "guidance": request.cfg,
        "cfg_rescale": request.cfg_rescale,
        "size": [request.width, request.height],
        "fingerprint": fingerprint(model),
    }
