"""Outpainting: a picture on a larger canvas, and the mask of what is to be painted around it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from ..core.errors import OptionError
from .images import Size, check_size

Fill = Literal["edge", "mirror", "blur", "noise"]
FILLS = ("edge", "mirror", "blur", "noise")
MULTIPLE = 8
OVERLAP = 16
MOST = 4096  # pixels on a side


def margins(text: str) -> tuple[int, int, int, int]:
    """`64` on all sides, `64,0` left and right, then top and bottom; `64,0,128,0` left, top, right, bottom."""
    try:
        given = [int(word) for word in text.split(",")]
    except ValueError:
        given = []
    if len(given) not in (1, 2, 4) or not all(0 <= side <= MOST for side in given) or not any(given):
        raise OptionError(f"margins {text!r}", expected=f"pixels from 0 to {MOST}, such as 64 or 64,0,128,0")
    left, top = given[0], given[-1] if len(given) < 4 else given[1]
    return (left, top, left, top) if len(given) < 4 else (given[0], given[1], given[2], given[3])


def canvas(
    image: Image.Image,
    margins: tuple[int, int, int, int],
    fill: str = "edge",
    overlap: int = OVERLAP,
    seed: int = 0,
) -> tuple[Image.Image, Image.Image]:
    """(the picture with margins left, top, right, bottom, mask white where there is nothing of it).

    The mask reaches `overlap` pixels into the picture where a margin is, fading, so that both join. Right and
    bottom grow to whole latent pixels. OptionError for an unknown fill or a canvas out of range.
    """
    if fill not in FILLS:
        raise OptionError(f"fill {fill!r}", expected=", ".join(FILLS))
    left, top, right, bottom = margins
    right += -(image.width + left + right) % MULTIPLE
    bottom += -(image.height + top + bottom) % MULTIPLE
    size: Size = check_size((image.width + left + right, image.height + top + bottom))
    around = ((top, bottom), (left, right))
    array = np.asarray(image.convert("RGB"))
    wide = Image.fromarray(np.pad(array, (*around, (0, 0)), mode=_MODES.get(fill, "edge")))  # type: ignore[call-overload]
    wide = _filled(wide, image, (left, top), fill, seed)
    return wide, Image.fromarray(_mask(size, image.size, (left, top, right, bottom), overlap))


_MODES = {"mirror": "symmetric"}


def _filled(
    wide: Image.Image, image: Image.Image, place: tuple[int, int], fill: str, seed: int
) -> Image.Image:
    """The canvas with its margins blurred, or noise of the picture's colours; the picture as it was."""
    if fill == "blur":
        wide = wide.filter(ImageFilter.GaussianBlur(max(image.size) / 16))
    elif fill == "noise":
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
        drawn = np.random.default_rng(seed).normal(
            pixels.mean((0, 1)), pixels.std((0, 1)), (*wide.size[::-1], 3)
        )
        wide = Image.fromarray(drawn.clip(0, 255).astype(np.uint8))
    wide.paste(image, place)
    return wide


def _mask(size: Size, inner: Size, margins: tuple[int, int, int, int], overlap: int) -> np.ndarray:
    """[h, w] 0 to 255: white in the margins, fading over `overlap` pixels inside."""
    sides = []
    for length, inside, before, after in (
        (size[0], inner[0], margins[0], margins[2]),
        (size[1], inner[1], margins[1], margins[3]),
    ):
        places = np.arange(length)
        from_start = places - before if before else np.full(length, inside)
        from_end = before + inside - 1 - places if after else np.full(length, inside)
        sides.append(np.minimum(from_start, from_end))
    depth = np.minimum(sides[0][None, :], sides[1][:, None])
    fade = np.clip(1 - (depth + 0.5) / max(overlap, 1), 0.0, 1.0) if overlap else (depth < 0) * 1.0
    return np.where(depth < 0, 255, fade * 255).round().astype(np.uint8)
