"""The newcomer's first line, for real: the bundled model, default settings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sigmagraft.standalone.source import BUNDLED

from .conftest import Answer

pytestmark = pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model is not trained yet")


def shares(path: str) -> tuple[float, float]:
    """How much of a picture is red, and how much blue."""
    with Image.open(path) as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
    is_red = (red > 140) & (red > 2 * green) & (red > 2 * blue)
    is_blue = (blue > 120) & (blue > 1.5 * red) & (blue > 1.5 * green)
    return float(is_red.mean()), float(is_blue.mean())


def test_the_first_line(run: Callable[..., Answer]) -> None:
    answer = run("a large red circle on a blue background", "--seed", 1, "--batch", 3)
    assert (answer.code, answer.err) == (0, "")
    found = [shares(path) for path in answer.out.split()]
    assert sum(0.05 < red < 0.6 and blue > 0.35 for red, blue in found) >= 2, found
    path = answer.out.split()[0]
    assert run("--from-image", path, "--out", "again.png", "--batch", 1).code == 0
    with Image.open(path) as first, Image.open("again.png") as second:
        difference = np.abs(np.asarray(first).astype(int) - np.asarray(second))
    assert difference.max() <= 2  # alone instead of in a batch: equal within rounding
