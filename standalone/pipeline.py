"""From a prompt to pictures: the Python API that the commands stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ..samplers import NoiseLevels
from . import latents
from .levels import levels_of
from .memory import choose_device, choose_dtype, memory_errors, prefer_layout, vae_dtype
from .model import Model, ModelInfo
from .preview import LatentPreview
from .request import Request
from .run import Result, Run, StepState
from .textual_inversion import Embeddings

__all__ = ["Pipeline", "Result", "StepState"]


class Pipeline:
    """One loaded model, ready to draw; ``preview`` makes quick pictures of a step's denoised latent."""

    def __init__(self, model: Model, embeddings: Iterable[str | Path] = ()) -> None:
        self.model = model
        self.levels: NoiseLevels = levels_of(model.info)
        self.embeddings = Embeddings(embeddings)
        self.preview = LatentPreview(lambda pixels: latents.encode(model, pixels), model.vae.factor)

    @property
    def info(self) -> ModelInfo:
        """What kind of model this is and why we think so."""
        return self.model.info

    @classmethod
    def load(
        cls,
        source: str | Path = "bundled",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        compile: bool = False,
        embeddings: Iterable[str | Path] = (),
        **options: Any,
    ) -> Pipeline:
        """A checkpoint file, diffusers folder or hub id; "bundled" is the small model that ships with the package.

        ``embeddings`` are textual inversion files or folders; ``options`` are those of ``load_model`` (vae,
        text_encoder, prediction, shift, variant, ...). FileError, MissingPartError, OptionError, OutOfMemory.
        """
        from .load import load_model

        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        with memory_errors("loading the model", place):
            options.setdefault("vae_dtype", vae_dtype(kind, place))
            model = load_model(source, device=place, dtype=kind, **options)
            for network in (model.unet, model.vae):
                prefer_layout(network, place)
        if compile:
            from .compiled import compile_unet

            compile_unet(model)
        return cls(model, embeddings)

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | list[str],
        *,
        callback: Callable[[StepState], None] | None = None,
        decoded: Callable[[int], None] | None = None,
        **settings: Any,
    ) -> Result:
        """Pictures for ``prompt``, one for each of ``batch`` or of a list of prompts.

        ``settings`` are the fields of ``Request``: negative, size (width, height), steps, cfg (0 and 1: the prompt
        alone, one evaluation a step), cfg_rescale, sampler, schedule, options (the sampler's), seed (image k of a
        batch has seed + k), batch, image and strength, mask (white is repainted), mask_blur, only_masked (pixels
        around the mask), clip_skip, emphasis, noise. ``callback`` is told of every step, ``decoded`` of every picture;
        what they raise ends the run. OptionError for a setting that cannot work, OutOfMemory with what to lower.
        """
        request = Request.of(prompt, settings)
        request.resolve(self.info, self.model.vae.factor)
        with memory_errors(
            f"drawing {request.width}x{request.height}, batch {request.batch}", self.model.device
        ):
            return Run(self, request).result(callback, decoded)
