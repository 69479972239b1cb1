"""Lines and soft edges without any weights: differences of Gaussians and slopes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...core.option import Option
from .filters import gaussian, sobel, to_array, to_image
from .spec import preprocessor


@preprocessor(
    "scribble",
    label="Scribble (XDoG)",
    options=(
        Option("threshold", 32.0, 1.0, 255.0, "darker than the surroundings by half of it is a line"),
        Option("fine", 0.5, 0.1, 20.0, "deviation of the narrow Gaussian, in pixels"),
        Option("wide", 5.0, 0.2, 50.0, "deviation of the wide Gaussian"),
    ),
    aliases=("scribble_xdog", "xdog"),
)
def scribble(image: Image.Image, threshold: float, fine: float, wide: float) -> Image.Image:
    """White where a narrow Gaussian is darker than a wide one, in any colour: a thresholded difference of Gaussians."""
    x = to_array(image)
    darker = (gaussian(x, wide) - gaussian(x, fine)).min(axis=2)
    return to_image(2 * darker > threshold)


@preprocessor(
    "lineart",
    label="Line art (difference of Gaussians)",
    options=(
        Option("sigma", 6.0, 0.5, 50.0, "deviation of the Gaussian that is the surroundings"),
        Option("threshold", 8.0, 0.0, 255.0, "what is weaker does not count in the typical line"),
    ),
    aliases=("lineart_standard",),
)
def lineart(image: Image.Image, sigma: float, threshold: float) -> Image.Image:
    """How much darker than its surroundings each pixel is, the typical line at half white."""
    x = to_array(image)
    darker = (gaussian(x, sigma) - x).min(axis=2).clip(min=0)
    lines = darker[darker > threshold]
    typical = max(16.0, float(np.median(lines)) if lines.size else 0.0)
    return to_image(darker / typical * 127.0)


@preprocessor(
    "softedge",
    label="Soft edges (slope of a Gaussian)",
    options=(
        Option("sigma", 2.0, 0.1, 20.0, "deviation of the blur, in pixels"),
        Option("share", 99.0, 50.0, 100.0, "per cent of the pixels that are below white"),
    ),
    aliases=("softedge_gaussian",),
)
def softedge(image: Image.Image, sigma: float, share: float) -> Image.Image:
    """The slope of the blurred picture, of the strongest colour, its top per cent white."""
    dx, dy = sobel(gaussian(to_array(image), sigma))
    slope = np.hypot(dx, dy).max(axis=2)
    top = max(float(np.percentile(slope, share)), 8.0)  # a flat picture has no edges, not amplified noise
    return to_image(slope / top * 255.0)
