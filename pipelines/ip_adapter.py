"""IPAdapterXL: the class of IP-Adapter's own repository, over a pipeline here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..core.errors import OptionError
from .stable_diffusion import StableDiffusionXLPipeline

PROMPT = "best quality, high quality"
NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"


class IPAdapterXL:
    """A picture as a prompt for SDXL; of every variant, which the file itself tells.

    `image_encoder_path` is a folder or file of a CLIP image encoder, `ip_ckpt` the adapter's file. FileError for what
    is neither, OptionError for a pipeline of another family.
    """

    def __init__(
        self,
        sd_pipe: StableDiffusionXLPipeline,
        image_encoder_path: str | os.PathLike[str],
        ip_ckpt: str | os.PathLike[str],
        device: str | torch.device | None = None,
        num_tokens: int | None = None,
    ) -> None:
        self.pipe = sd_pipe if device is None else sd_pipe.to(device)
        sd_pipe.load_ip_adapter(os.fspath(ip_ckpt), image_encoder_folder=None)
        (loaded,) = sd_pipe.ip_adapters.loaded
        sd_pipe.ip_adapters.loaded = [replace(loaded, encoder=Path(image_encoder_path))]

    def set_scale(self, scale: float) -> None:
        """How strongly the picture acts."""
        self.pipe.set_ip_adapter_scale(scale)

    def generate(
        self,
        pil_image: Image.Image,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        scale: float = 1.0,
        num_samples: int = 4,
        seed: int | None = None,
        num_inference_steps: int = 30,
        **settings: Any,
    ) -> list[Image.Image]:
        """`num_samples` pictures; `settings` are those of the pipeline's call. OptionError."""
        if num_samples < 1:
            raise OptionError(f"num_samples {num_samples}", expected="1 or more")
        self.set_scale(scale)
        generator = None if seed is None else torch.Generator(self.pipe.device).manual_seed(seed)
        return self.pipe(  # type: ignore[operator]
            PROMPT if prompt is None else prompt,
            negative_prompt=NEGATIVE if negative_prompt is None else negative_prompt,
            ip_adapter_image=pil_image,
            num_images_per_prompt=num_samples,
            num_inference_steps=num_inference_steps,
            generator=generator,
            **settings,
        ).images
