"""ComfyUI's IMAGE [b, h, w, c] and MASK [b, h, w] in 0..1 as pictures, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...controlnet.hints import to_hint


def pictures(images: Tensor | None) -> list[Image.Image]:
    """8-bit pictures; pixels below 0, which inpaint hints mark holes with, become transparent."""
    return [] if images is None else [_picture(one) for one in images.detach().cpu().float()]


def _picture(pixels: Tensor) -> Image.Image:
    if pixels.shape[-1] == 4:
        return Image.fromarray(_bytes(pixels), "RGBA")
    colours = _bytes(pixels[..., :3])
    if not (pixels < 0).any():
        return Image.fromarray(colours)
    alpha = np.where((pixels[..., :3] < 0).all(-1).numpy(), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colours, alpha]), "RGBA")


def mask_picture(mask: Tensor | None) -> Image.Image | None:
    """The first mask, white where it is 1."""
    if mask is None:
        return None
    mask = mask.detach().cpu().float()
    return Image.fromarray(_bytes(mask if mask.ndim == 2 else mask.flatten(0, -3)[0]))


def _bytes(values: Tensor) -> Any:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def with_holes(image: Image.Image, mask: Image.Image | None) -> Image.Image:
    """A picture, transparent where the mask is white."""
    if mask is None:
        return image
    holed = image.convert("RGBA")
    hole = np.asarray(mask.resize(image.size)) > 127
    holed.putalpha(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)))
    return holed


def tensor_of(images: Sequence[Image.Image]) -> Tensor:
    """IMAGE of pictures of one size; holes as -1."""
    return torch.cat([to_hint(image).movedim(1, -1) for image in images])
