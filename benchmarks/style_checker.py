"""Whether things in a picture have dark borders, and whether it holds a roundel; told from its pixels alone.

Written apart from the drawing code, like scene_checker, whose palette it uses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..training.words import COLOURS
from .scene_checker import labelled

DARK, NEAR = 0.6, 4  # share of an object's rim that must have dark beside it, and how near in pixels
RINGS = ("blue", "white", "red")  # of a roundel, from its middle
RAYS, RIGHT = 24, 0.7  # directions looked in from the middle, share of them that must see the rings in order
SPECK = 20  # pixels below which a spot is dirt
Labels = NDArray[np.int64]


def outlined(picture: NDArray[np.uint8], colour: str) -> bool:
    """Whether the largest spot of a colour has dark all around it; a black thing's border is white."""
    labels = labelled(picture)
    spot = _largest(labels == _index(colour))
    if spot is None:
        return False
    rim = ndimage.binary_dilation(spot) & ~spot
    border = labels == _index("white" if colour == "black" else "black")
    border = ndimage.binary_opening(border, np.ones((2, 2)))  # edges between two colours are dark for a pixel
    return bool(ndimage.binary_dilation(border, iterations=NEAR)[rim].mean() >= DARK)


def roundel(picture: NDArray[np.uint8]) -> bool:
    """Whether rays from the middle of some blue spot see blue, white and red in this order."""
    labels = labelled(picture)
    spots, count = ndimage.label(labels == _index(RINGS[0]))
    sizes = ndimage.sum_labels(np.ones_like(labels), spots, range(1, count + 1)) if count else []
    middles = [ndimage.center_of_mass(spots == k + 1) for k, size in enumerate(sizes) if size >= SPECK]
    return any(_seen(labels, middle) >= RIGHT for middle in middles)


def _seen(labels: Labels, middle: tuple[float, float]) -> float:
    """Share of rays on which a roundel's colours come in order, whatever lies where they run into one another."""
    wanted = [_index(name) for name in RINGS]
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    seen = [[c for c in _colours(labels, middle, angle) if c in wanted] for angle in angles]
    return float(np.mean([_distinct(colours)[:3] == wanted for colours in seen]))


def _colours(labels: Labels, middle: tuple[float, float], angle: float) -> list[int]:
    """The colours along a ray, each seen for two pixels or more."""
    far = np.arange(0, 48)
    y, x = (np.rint(m + far * f(angle)).astype(int) for m, f in zip(middle, (np.sin, np.cos), strict=True))
    inside = (y >= 0) & (x >= 0) & (y < labels.shape[0]) & (x < labels.shape[1])
    line = labels[y[inside], x[inside]]
    starts = np.flatnonzero(np.diff(line, prepend=-1))
    runs = [int(line[at]) for at, end in zip(starts, [*starts[1:], len(line)], strict=True) if end - at >= 2]
    return runs


def _distinct(names: list[int]) -> list[int]:
    """Without repetitions in a row."""
    return [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    spots, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(spots.ravel())[1:]
    return spots == 1 + int(sizes.argmax()) if sizes.max() >= SPECK else None


def _index(name: str) -> int:
    return list(COLOURS).index(name)
