"""What moves in a clip of drawn scenes, told from its pixels alone: a thing's place and size, frame by frame.

Written apart from the drawing code, as scene_checker.py: a frame's object is the largest blob of the colour asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..training.words import COLOURS
from .scene_checker import labelled

LEAST = 150  # pixels of an object, half of the smallest one drawn
FAR = 0.12  # of the picture's side: a walk shorter than this is none
STEADY = 0.8  # rank correlation of place or size with time
GROWN = 1.3  # ratio of the areas of last and first frames
ACROSS = 0.6  # a walk's part across its direction, of that along it


@dataclass(frozen=True)
class Track:
    """x, y in fractions of the side and area in pixels of the object in each frame; NaN where there is none."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: NDArray[np.float64]

    @property
    def whole(self) -> bool:
        """Whether the object is in every frame."""
        return bool(np.isfinite(self.x).all())

    def motion(self) -> str | None:
        """What the object does, None where nothing is clear."""
        if not self.whole or len(self.x) < 3:
            return None
        third = max(len(self.x) // 3, 1)
        dx, dy, growth = (_change(v, third) for v in (self.x, self.y, np.log(self.area)))
        if max(abs(dx), abs(dy)) >= FAR:
            along, values = (dx, self.x) if abs(dx) > abs(dy) else (dy, self.y)
            if min(abs(dx), abs(dy)) > ACROSS * abs(along) or _order(values) * np.sign(along) < STEADY:
                return None
            names = ("moving left", "moving right") if abs(dx) > abs(dy) else ("moving up", "moving down")
            return names[int(along > 0)]
        if abs(growth) < np.log(GROWN) or _order(self.area) * np.sign(growth) < STEADY:
            return None
        return "growing" if growth > 0 else "shrinking"


def track(frames: Sequence[NDArray[np.uint8]], colour: str) -> Track:
    """Follow the object of this colour over frames [h, w, 3]."""
    rows = np.array([_find(frame, list(COLOURS).index(colour)) for frame in frames])
    return Track(*rows.T)


def _find(frame: NDArray[np.uint8], number: int) -> tuple[float, float, float]:
    parts, count = ndimage.label(labelled(frame) == number)
    areas = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1)) if count else np.zeros(1)
    if areas.max() < LEAST:
        return (np.nan, np.nan, np.nan)
    y, x = ndimage.center_of_mass(parts == int(np.argmax(areas)) + 1)
    return (x / frame.shape[1], y / frame.shape[0], float(areas.max()))


def _change(values: NDArray[np.float64], third: int) -> float:
    """From the mean of the first frames to that of the last."""
    return float(values[-third:].mean() - values[:third].mean())


def _order(values: NDArray[np.float64]) -> float:
    """Spearman's rank correlation with time."""
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])
