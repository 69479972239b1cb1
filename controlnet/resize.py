"""Pictures brought to a size: stretched, cut, or filled up. Pillow and numpy, no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from ..core.errors import OptionError, nearest

Size = tuple[int, int]  # width, height


def stretch(image: Image.Image, size: Size) -> Image.Image:
    """Scale to `size`, changing the proportions if they differ."""
    return image.resize(size, Image.Resampling.LANCZOS)


def crop(image: Image.Image, size: Size) -> Image.Image:
    """Scale until `size` is covered, cut what sticks out, centred."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def fill(image: Image.Image, size: Size) -> Image.Image:
    """Scale until it fits into `size`, centred, and continue the edge rows outwards over the rest."""
    inner = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    left, top = (size[0] - inner.width) // 2, (size[1] - inner.height) // 2
    across = (left, size[0] - inner.width - left)
    down = (top, size[1] - inner.height - top)
    channels = ((0, 0),) * (np.asarray(inner).ndim - 2)
    return Image.fromarray(np.pad(np.asarray(inner), (down, across, *channels), mode="edge"))


def picture_of(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB, or RGBA where parts of it are transparent."""
    image = eight_bit(image)
    holes = "A" in image.mode or "transparency" in image.info
    return image.convert("RGBA" if holes else "RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey scaled to 8 bits; Pillow's own convert() would clip it to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nan_to_num(values).max(initial=1.0)))
    return Image.fromarray((np.nan_to_num(values).clip(0, top) * (255.0 / top)).round().astype(np.uint8))


RESIZE: dict[str, Callable[[Image.Image, Size], Image.Image]] = {
    "stretch": stretch,
    "crop": crop,
    "fill": fill,
}


def fit_image(image: Image.Image, size: Size, mode: str = "crop") -> Image.Image:
    """`image` at `size` by one of the RESIZE modes; OptionError for another name."""
    if mode not in RESIZE:
        raise OptionError(f"unknown resize mode {mode!r}", todo=nearest(mode, RESIZE))
    return image if image.size == size else RESIZE[mode](image, size)
