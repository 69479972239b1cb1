"""Depth to image: a picture is redrawn with its depth kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import MissingPartError, OptionError
from .arguments import DEPTH, RUN, START
from .base import Found
from .latent import LatentPipeline
from .starts import Begin, Start, from_image, repeated

Self = TypeVar("Self", bound="StableDiffusionDepth2ImgPipeline")


def from_depth(begin: Begin) -> Start:
    """Image-to-image whose UNet is also given the depth, from -1 (far) to 1 (near)."""
    depth = depth_of(begin.pipe, begin.call.depth_map, begin.call.image)
    start = from_image(begin)
    small = torch.nn.functional.interpolate(
        depth[:, None].float(), size=begin.shape[-2:], mode="bicubic", align_corners=False
    )
    low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
    scaled = 2.0 * (small - low) / (high - low).clamp(min=1e-6) - 1.0
    start.channels = repeated(scaled.to(begin.pipe.device, begin.pipe.dtype), begin.batch)
    return start


def depth_of(pipe: LatentPipeline, depth: Tensor | None, image: Any) -> Tensor:
    """The depth map [b, H, W] that was given, or what the pipeline's estimator sees in the picture.

    Raises OptionError for a map of another shape, MissingPartError where there is neither.
    """
    if depth is not None:
        if depth.ndim not in (2, 3):
            raise OptionError(f"depth_map of shape {tuple(depth.shape)}", expected="[batch, height, width]")
        return depth if depth.ndim == 3 else depth[None]
    estimator, extractor = pipe.components["depth_estimator"], pipe.components["feature_extractor"]
    if estimator is None or extractor is None:
        raise MissingPartError("no depth_estimator", pipe.source, todo="give depth_map=, a tensor [b, H, W]")
    if isinstance(image, Tensor):
        image = [np.asarray(each.permute(1, 2, 0)) for each in image]
    seen = extractor(images=image, return_tensors="pt").pixel_values
    with torch.no_grad():
        return estimator(seen.to(next(estimator.parameters()))).predicted_depth


class StableDiffusionDepth2ImgPipeline(
    LatentPipeline,
    start=from_depth,
    takes={**START, **DEPTH, "strength": 0.8, **RUN},
    more=("depth_estimator", "feature_extractor"),
):
    """Text, a picture and its depth to image (SD2-depth); the depth is transformers' DPT's, or given."""

    @classmethod
    def build(cls: type[Self], found: Found, components: dict[str, Any]) -> Self:
        if "depth_estimator" not in components and (found.path / "depth_estimator").is_dir():
            components = {**_estimator(found.path), **components}
        return super().build(found, components)


def _estimator(path: Path) -> dict[str, Any]:
    """DPT and what prepares its pictures, from their folders; weights that are pickles are refused."""
    from transformers import DPTForDepthEstimation, DPTImageProcessor

    estimator = DPTForDepthEstimation.from_pretrained(path / "depth_estimator", use_safetensors=True)
    extractor = DPTImageProcessor.from_pretrained(path / "feature_extractor")
    return {"depth_estimator": estimator.eval(), "feature_extractor": extractor}
