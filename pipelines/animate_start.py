"""What a clip's walk starts from and is told: noise of all frames, and the prompt of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..animate.free_init import FreeInit
from ..animate.free_noise import FreeNoise
from ..animate.travel import Between, at_frames, spread
from ..core.errors import OptionError
from ..schedulers.draw import Generators, randn
from ..standalone.conditioning import Conditioning
from .prompts import Prompter, Words

if TYPE_CHECKING:
    from .animate import ClipPipeline


def start_noise(
    call: SimpleNamespace, shape: torch.Size, free: FreeNoise | None, pipe: ClipPipeline
) -> Tensor:
    """[b, c, frames, h, w]: the caller's latents, or noise; rescheduled by FreeNoise. OptionError for another shape."""
    given = call.latents
    if given is not None and given.shape == shape:
        return given.to(pipe.device)
    if given is not None:
        short = free is not None and given.shape == (*shape[:2], free.length, *shape[3:])
        if not short:
            raise OptionError(f"latents of shape {tuple(given.shape)}", expected=str(tuple(shape)))
        given = given.to(pipe.device).repeat(1, 1, -(-shape[2] // given.shape[2]), 1, 1)[:, :, : shape[2]]
    noise = randn(shape, call.generator, pipe.device, pipe.dtype) if given is None else given
    if free is None:
        return noise
    first = _first(call.generator)
    return free.rescheduled(noise, 2, lambda n: torch.randperm(n, generator=first))


def _first(generator: Generators) -> torch.Generator | None:
    return generator[0] if isinstance(generator, Sequence) else generator


def again(free: FreeInit, end: Tensor, start: Tensor, alpha_bar: float, generator: Generators) -> Tensor:
    """FreeInit's next start: unit noise with the low frequencies of `end` noised by `start` to the last timestep."""
    noised = end * alpha_bar**0.5 + start * (1 - alpha_bar) ** 0.5
    fresh = randn(end.shape, generator, end.device, torch.float32)
    return free.mixed(noised, fresh).to(end.dtype)


def per_frame(
    prompter: Prompter,
    words: tuple[Words, Words],
    call: SimpleNamespace,
    guided: bool,
    between: Between | None = None,
) -> tuple[Conditioning, Conditioning | None]:
    """(cond, uncond) with a row for each frame of each clip. Prompts given as {frame: text} go from one to the next."""
    prompt, negative = words
    if not any(isinstance(side.text, dict) for side in words):
        cond, uncond = prompter.both(prompt, negative, call.num_images_per_prompt, guided)
        return _repeated(cond, call.num_frames), uncond and _repeated(uncond, call.num_frames)
    cond = _travelling(prompter, prompt, call.num_frames, False, between)
    return cond, _travelling(prompter, negative, call.num_frames, True, between) if guided else None


def _travelling(
    prompter: Prompter, words: Words, frames: int, negative: bool, between: Between | None
) -> Conditioning:
    texts = at_frames(words.text, frames)
    found = prompter.one(replace(words, text=list(texts.values())), len(texts), negative)
    places = [*texts]
    return replace(
        found,
        context=spread(found.context, places, between),
        vector=None if found.vector is None else spread(found.vector, places),
    )


def _repeated(cond: Conditioning, frames: int) -> Conditioning:
    vector = None if cond.vector is None else cond.vector.repeat_interleave(frames, 0)
    return replace(cond, context=cond.context.repeat_interleave(frames, 0), vector=vector)
