"""Filters on arrays [h, w] or [h, w, c] in 0..255, fp32."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


def to_array(image: Image.Image) -> Array:
    """[h, w, 3]."""
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def to_image(array: Array | NDArray[np.bool_]) -> Image.Image:
    """A grey array or a colour one as an RGB picture, rounded and clipped; of truths, white is true."""
    values = array * 255.0 if array.dtype == bool else array
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


def convolved(x: Array, kernel: Array, axis: int) -> Array:
    """x correlated with a kernel of odd length along an axis, the edge pixels going on outwards."""
    reach = len(kernel) // 2
    pad = [(0, 0)] * x.ndim
    pad[axis] = (reach, reach)
    padded, length = np.pad(x, pad, mode="edge"), x.shape[axis]
    out = np.zeros_like(x)
    for i, weight in enumerate(kernel):
        out += weight * np.take(padded, range(i, i + length), axis=axis)
    return out


def gaussian(x: Array, sigma: float) -> Array:
    """Blurred by a Gaussian cut off at 4 sigma; as it is at sigma 0."""
    if sigma <= 0:
        return x
    reach = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1, dtype=np.float32) / sigma) ** 2)
    kernel /= kernel.sum()
    return convolved(convolved(x, kernel, 0), kernel, 1)


def sobel(x: Array) -> tuple[Array, Array]:
    """(d/dx, d/dy) by Sobel's 3x3 kernels, unscaled: 4 times a slope and the mean of three rows."""
    smooth = np.array([1, 2, 1], np.float32)
    slope = np.array([-1, 0, 1], np.float32)
    return convolved(convolved(x, smooth, 0), slope, 1), convolved(convolved(x, smooth, 1), slope, 0)
