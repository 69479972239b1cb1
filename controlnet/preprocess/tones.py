"""Hints that are the picture itself, with less in it: blurred, coarser, in two tones, turned, shuffled."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from ...core.option import Option
from .filters import gaussian, to_array, to_image
from .spec import preprocessor


@preprocessor("none", label="None (the picture is the hint)")
def none(image: Image.Image) -> Image.Image:
    """The picture as it is."""
    return image


@preprocessor("invert", label="Invert")
def invert(image: Image.Image) -> Image.Image:
    """255 less each value: drawings on white become the white on black that line models take."""
    return ImageOps.invert(image.convert("RGB"))


@preprocessor(
    "threshold", label="Threshold", options=(Option("threshold", 127.0, 0.0, 255.0, "brighter is white"),)
)
def threshold(image: Image.Image, threshold: float) -> Image.Image:
    """White where the mean of the colours is above the threshold, black elsewhere."""
    return to_image(to_array(image).mean(axis=2) > threshold)


@preprocessor(
    "blur", label="Blur", options=(Option("sigma", 9.0, 0.1, 100.0, "deviation of the Gaussian, in pixels"),)
)
def blur(image: Image.Image, sigma: float) -> Image.Image:
    """Blurred by a Gaussian."""
    return to_image(gaussian(to_array(image), sigma))


@preprocessor(
    "tile",
    label="Tile (resample)",
    options=(Option("factor", 1.0, 1.0, 16.0, "how much coarser, along a side"),),
    aliases=("tile_resample",),
)
def tile(image: Image.Image, factor: float) -> Image.Image:
    """The picture scaled down and back up: what is left is what a tile model keeps."""
    small = (max(round(image.width / factor), 1), max(round(image.height / factor), 1))
    if small == image.size:
        return image.convert("RGB")
    coarse = image.convert("RGB").resize(small, Image.Resampling.BOX)
    return coarse.resize(image.size, Image.Resampling.BICUBIC)


@preprocessor(
    "color",
    label="Colour grid",
    options=(Option("cell", 64, 1, 1024, "pixels of a square, along a side"),),
    aliases=("t2ia_color", "colour"),
)
def color(image: Image.Image, cell: int) -> Image.Image:
    """Squares of one colour each, as T2I's color adapter was trained on."""
    small = (max(image.width // cell, 1), max(image.height // cell, 1))
    coarse = image.convert("RGB").resize(small, Image.Resampling.BICUBIC)
    return coarse.resize(image.size, Image.Resampling.NEAREST)


@preprocessor(
    "shuffle",
    label="Content shuffle",
    options=(
        Option("seed", 0, 0, 2**31, "of the random field"),
        Option("reach", 256.0, 8.0, 4096.0, "pixels over which neighbours stay together"),
    ),
)
def shuffle(image: Image.Image, seed: int, reach: float) -> Image.Image:
    """The picture read along a smooth random field: its colours stay, its places do not."""
    array, rng = to_array(image), np.random.default_rng(seed)
    height, width = array.shape[:2]
    x = _field(rng, height, width, reach) * (width - 1)
    y = _field(rng, height, width, reach) * (height - 1)
    return to_image(_bilinear(array, y, x))


def _field(rng: np.random.Generator, height: int, width: int, reach: float) -> np.ndarray:
    """[h, w] smooth in 0..1: random values on a coarse grid, cubic between them, stretched to the whole range."""
    rows, columns = (max(round(n / reach), 1) + 2 for n in (height, width))
    coarse = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    field = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    low, high = field.min(), field.max()
    return (field - low) / max(high - low, 1e-6)


def _bilinear(array: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """array [h, w, c] read at fractional places y, x [h, w]."""
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    below, right = np.minimum(top + 1, array.shape[0] - 1), np.minimum(left + 1, array.shape[1] - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    upper = array[top, left] * (1 - across) + array[top, right] * across
    lower = array[below, left] * (1 - across) + array[below, right] * across
    return upper * (1 - down) + lower * down
