"""Canny's edges (IEEE PAMI 8, 1986) with the conventions of OpenCV, which the canny models were trained on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...core.errors import OptionError
from ...core.option import Option
from .filters import Array, gaussian, sobel, to_array, to_image
from .spec import preprocessor

_TAN = math.tan(math.pi / 8)  # the border between two of the four directions


@preprocessor(
    "canny",
    label="Canny edges",
    options=(
        Option("low", 100.0, 0.0, 2040.0, "weaker edges are none, unless they touch a strong one"),
        Option("high", 200.0, 0.0, 2040.0, "stronger edges are edges"),
        Option("blur", 0.0, 0.0, 20.0, "sigma of a blur beforehand, in pixels"),
    ),
)
def canny(image: Image.Image, low: float, high: float, blur: float) -> Image.Image:
    """Thin white edges: largest slope across the edge, two thresholds on |d/dx| + |d/dy| (of the strongest colour)."""
    if low > high:
        raise OptionError(f"canny thresholds {low:g} and {high:g}", expected="low at most high")
    return to_image(edges(gaussian(to_array(image), blur), low, high))


def edges(x: Array, low: float, high: float) -> NDArray[np.bool_]:
    """[h, w] truths of an array [h, w, channels]."""
    dx, dy = strongest(*sobel(x))
    strength = np.abs(dx) + np.abs(dy)
    thin = ridge(strength, dx, dy) & (strength > low)
    return connected(thin & (strength > high), thin)


def strongest(dx: Array, dy: Array) -> tuple[Array, Array]:
    """Of each pixel's channels the one with the strongest slope."""
    which = np.argmax(np.abs(dx) + np.abs(dy), axis=2)[..., None]
    return np.take_along_axis(dx, which, 2)[..., 0], np.take_along_axis(dy, which, 2)[..., 0]


def ridge(strength: Array, dx: Array, dy: Array) -> NDArray[np.bool_]:
    """Where the strength is largest among the neighbours across the edge; of two equal ones the second is it."""
    padded = np.pad(strength, 1)

    def at(down: int, right: int) -> Array:
        h, w = strength.shape
        return padded[1 + down : 1 + down + h, 1 + right : 1 + right + w]

    flat, steep = np.abs(dy) < _TAN * np.abs(dx), np.abs(dx) < _TAN * np.abs(dy)
    across = (strength > at(0, -1)) & (strength >= at(0, 1))
    along = (strength > at(-1, 0)) & (strength >= at(1, 0))
    falling = (strength > at(-1, -1)) & (strength > at(1, 1))
    rising = (strength > at(-1, 1)) & (strength > at(1, -1))
    slanted = np.where(dx * dy < 0, rising, falling)
    return np.where(flat, across, np.where(steep, along, slanted))


def connected(seeds: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All of `inside` that touches a seed over any chain of the eight neighbours."""
    width = inside.shape[1] + 2
    free = np.pad(inside & ~seeds, 1).ravel()
    found = np.pad(seeds, 1).ravel()
    front = np.flatnonzero(found)
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    while front.size:
        near = (front[:, None] + steps).ravel()
        front = np.unique(near[free[near]])
        free[front] = False
        found[front] = True
    return found.reshape(-1, width)[1:-1, 1:-1]
