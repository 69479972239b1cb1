"""The Stable Diffusion pipelines: each is a table of arguments, a start, and SDXL's sizes where it is one."""

from __future__ import annotations

from types import SimpleNamespace

from ..core.errors import OptionError
from ..standalone.textrules import Sizes
from .arguments import CROP, IMAGE, MAP, MASK, RUN, SIZE, START, XL, XL_IMAGE
from .latent import LatentPipeline
from .prompts import Words
from .starts import from_image, from_map, from_mask

CHECKED = ("safety_checker", "feature_extractor", "image_encoder")
_STRENGTH = {"strength": 0.8}
_XL_TEXT = {**RUN, "guidance_scale": 5.0, **XL}


class StableDiffusionPipeline(LatentPipeline, takes={**START, **SIZE, **RUN}, more=CHECKED):
    """Text to image with SD1 and SD2."""


class StableDiffusionImg2ImgPipeline(
    LatentPipeline, start=from_image, takes={**START, **IMAGE, **_STRENGTH, **RUN}, more=CHECKED
):
    """Text and a picture to image: `strength` says how much of it changes."""


class StableDiffusionDifferentialImg2ImgPipeline(
    LatentPipeline,
    start=from_map,
    takes={**START, **IMAGE, "strength": 1.0, **RUN, **SIZE, **MAP},
    more=CHECKED,
):
    """As image to image, where the grey of `map` says how much stays: white all, black nothing (arXiv:2306.00950)."""


class StableDiffusionInpaintPipeline(
    LatentPipeline,
    start=from_mask,
    takes={**START, **MASK, **SIZE, **CROP, "strength": 1.0, **RUN},
    more=CHECKED,
):
    """Repaints what a mask shows white; with ordinary models and with those of nine channels."""


class XLWords(LatentPipeline, more=("text_encoder_2", "tokenizer_2", "feature_extractor", "image_encoder")):
    """SDXL's second encoder and sizes."""

    def words(self, call: SimpleNamespace, size: tuple[int, int]) -> tuple[Words, Words]:
        absent = call.negative_prompt is None and call.negative_prompt_embeds is None
        sides = [_sizes(call, size, side) for side in ("", "negative_")]
        prompt = Words(call.prompt, call.prompt_2, call.prompt_embeds, call.pooled_prompt_embeds, sides[0])
        negative = Words(
            None if absent else call.negative_prompt,
            call.negative_prompt_2,
            call.negative_prompt_embeds,
            call.negative_pooled_prompt_embeds,
            sides[1],
            zero=absent and self.zero_negative,
        )
        return prompt, negative


def _sizes(call: SimpleNamespace, size: tuple[int, int], side: str) -> Sizes:
    """SDXL's numbers of one side; the negative side has the positive's original size where it has none."""

    def pair(name: str, default: tuple[int, int]) -> tuple[int, int]:
        given = getattr(call, f"{side}{name}") or getattr(call, name) or default
        if len(given) != 2:
            raise OptionError(f"{side}{name} {given!r}", expected="two numbers, (height, width)")
        return int(given[1]), int(given[0])

    crop = getattr(call, f"{side}crops_coords_top_left")
    score = getattr(call, f"{side}aesthetic_score", None)
    return Sizes(pair("original_size", size), (crop[1], crop[0]), pair("target_size", size), score)


class StableDiffusionXLPipeline(XLWords, takes={**START, **SIZE, **_XL_TEXT}):
    """Text to image with SDXL."""


class StableDiffusionXLImg2ImgPipeline(
    XLWords, start=from_image, takes={**START, **IMAGE, "strength": 0.3, **_XL_TEXT, **XL_IMAGE}
):
    """Text and a picture (or the base model's latents) to image, with SDXL and its refiner."""


class StableDiffusionXLInpaintPipeline(
    XLWords,
    start=from_mask,
    takes={**START, **MASK, **SIZE, **CROP, "strength": 0.9999, **RUN, **XL, **XL_IMAGE},
):
    """Repaints what a mask shows white, with SDXL."""


class StableDiffusionXLDifferentialImg2ImgPipeline(
    XLWords,
    start=from_map,
    takes={**START, **IMAGE, "strength": 1.0, **_XL_TEXT, **XL_IMAGE, **SIZE, **MAP},
):
    """As image to image with SDXL, where the grey of `map` says how much stays: white all, black nothing."""
