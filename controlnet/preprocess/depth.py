"""Depth by a network of transformers (DPT, Depth-Anything and whatever else it can load)."""

from __future__ import annotations

import torch
from PIL import Image
from torch.nn import functional as F

from .pretrained import network, pixels
from .spec import preprocessor

USUAL = "Intel/dpt-hybrid-midas"


@preprocessor(
    "depth",
    label="Depth (DPT, Depth-Anything)",
    texts={"model": f"a folder of weights or a hub id of a depth network; default {USUAL}"},
    aliases=("depth_midas", "depth_anything"),
)
def depth(image: Image.Image, model: str = USUAL) -> Image.Image:
    """Near is white: the network's answer scaled to the picture (bicubic), from its least to its largest value."""
    made, settings = network("AutoModelForDepthEstimation", str(model))
    with torch.inference_mode():
        found = made(pixel_values=pixels(image, settings)).predicted_depth
    size = (image.height, image.width)
    found = F.interpolate(found[:, None].float(), size=size, mode="bicubic", align_corners=False)
    low, high = found.aminmax()
    scaled = (found - low) / (high - low).clamp(min=1e-6) * 255.0
    return Image.fromarray(scaled[0, 0].clamp(0, 255).byte().cpu().numpy()).convert("RGB")
