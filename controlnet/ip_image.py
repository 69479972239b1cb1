"""Reference images as an image encoder sees them: squares of a fixed side in CLIP's colours; tiles of long ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import OptionError, nearest
from .resize import eight_bit

# The mean and deviation of CLIP's training images (arXiv:2103.00020), of colours in 0..1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
# Where the square is cut from a picture that is none (x, y in 0..1 of the room there is); `pad` shows all of it.
CROPS: dict[str, tuple[float, float] | None] = {
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "pad": None,
}
MAX_TILES = 4  # along a side


def check_crop(crop: str) -> str:
    """`crop` itself; OptionError with the nearest name where there is none such."""
    if crop not in CROPS:
        raise OptionError(f"crop {crop!r}", todo=nearest(crop, CROPS))
    return crop


def pixels(images: Sequence[Image.Image], side: int, crop: str = "center") -> Tensor:
    """Pictures as [n, 3, side, side]: shorter side resized bicubically, cut square, (colour - mean) / std."""
    stack = np.stack([np.asarray(_square(eight_bit(image).convert("RGB"), side, crop)) for image in images])
    values = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return (values - mean) / std


def _square(image: Image.Image, side: int, crop: str) -> Image.Image:
    place = CROPS[crop]
    if place is None:
        image = _padded(image)
    short = min(image.size)
    width, height = (int(side * edge / short) for edge in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    x, y = place or (0.5, 0.5)
    left, top = int((width - side) * x), int((height - side) * y)
    return resized.crop((left, top, left + side, top + side))


def _padded(image: Image.Image) -> Image.Image:
    """On a square of its mean colour."""
    long = max(image.size)
    mean = np.asarray(image, np.float64).reshape(-1, 3).mean(0).round().astype(int)
    square = Image.new("RGB", (long, long), tuple(mean.tolist()))
    square.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return square


def tiles(image: Image.Image) -> list[tuple[Image.Image, Tensor]]:
    """Squares that cover a picture, and where each lies: masks [h, w] of the picture's size that add up to 1.

    Nearly square pictures are cut into two by two, long ones into as many squares of their shorter side as cover
    them, at most MAX_TILES. Where squares overlap each counts in equal parts.
    """
    width, height = image.size
    near = 0.75 < width / height < 1.33
    side = (max if near else min)(width, height)
    side = math.ceil(side / 2) if near else max(side, math.ceil(max(width, height) / MAX_TILES))
    boxes = [
        (left, top, left + min(side, width), top + min(side, height))
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]
    covers = torch.zeros(len(boxes), height, width)
    for cover, (left, top, right, bottom) in zip(covers, boxes, strict=True):
        cover[top:bottom, left:right] = 1
    covers /= covers.sum(0)
    return [(image.crop(box), cover) for box, cover in zip(boxes, covers, strict=True)]


def _starts(length: int, side: int) -> list[int]:
    """Where squares of `side` begin so that they cover `length` evenly."""
    count = max(math.ceil(length / side), 1)
    room = max(length - side, 0)
    return [round(room * k / (count - 1)) if count > 1 else 0 for k in range(count)]
