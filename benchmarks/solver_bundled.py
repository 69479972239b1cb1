"""The bundled model as a case for benchmarks.solvers: prompts, guidance 4, its own 500-step walk as the end."""

from __future__ import annotations

import torch

from benchmarks.solvers import Case
from sigmagraft import Pipeline
from sigmagraft.samplers import NoiseLevels, drive, schedule
from sigmagraft.standalone.denoiser import Denoiser
from sigmagraft.standalone.encode import encode_prompts
from sigmagraft.standalone.guidance import guided

PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star on a black background",
    "a green square to the left of a white circle on a purple background",
    "an orange heart on a grey background",
    "a black ring above a pink square on a yellow background",
    "a white triangle at the top on a green background",
)
GUIDANCE = 4.0


def bundled(images: int, fine: int = 500) -> tuple[NoiseLevels, list[Case]]:
    """The model's levels and one case; `fine` steps lead to its end."""
    pipe = Pipeline.load()
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(images)]
    size = (128, 128)
    cond = encode_prompts(pipe.model, prompts, size=size)
    uncond = encode_prompts(pipe.model, [""] * images, size=size, negative=True)
    denoiser = Denoiser(pipe.model.unet, pipe.levels, pipe.model.info.prediction, pipe.model.dtype)
    walk = guided(denoiser, cond, uncond, GUIDANCE, 0.0)
    noise = torch.randn(images, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    sigmas = schedule("exponential", fine, pipe.levels)
    end = drive("dpmpp_2m", walk, noise * (1 + sigmas[0] ** 2) ** 0.5, sigmas, levels=pipe.levels)
    return pipe.levels, [Case(walk, noise, end.double())]
