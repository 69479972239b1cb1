"""Which of the named shapes a mask is, judged against outlines rasterised here by formulas of our own.

A whole mask is brought to unit area about its centroid and compared with every outline by soft intersection
over union; a mask partly hidden by another object is searched for at every place and scale, and what lies under
the other object counts neither for nor against. Formulas use x to the right, y down, reaching about +-1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..training.words import SHAPES

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]
Inside = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]

GRID = 40  # samples across a normalised shape
REACH = 1.15  # half width of the normalised window in units of sqrt(area)
HOLE = 0.05  # holes below this part of the filled area are dirt
COARSE = 64  # side at which hidden shapes are searched for
STAMP, STAMP_REACH = 100, 1.25  # side of a rasterised outline, its half width in half extents
SCALES = tuple(0.115 * 1.085**k for k in range(13))  # half extents searched for, 0.115 to 0.31 of the side


@dataclass(frozen=True)
class Fit:
    """A shape and how sure that is: `score` soft IoU in [0, 1], `margin` its lead over other shapes.

    x, y and the half extent are fractions of the picture's side; `cover` [COARSE, COARSE] is what the whole
    outline covers, None where the mask itself is the outline.
    """

    shape: str
    score: float
    margin: float
    x: float
    y: float
    extent: float
    cover: Plane | None = None


def _polygon(points: list[tuple[float, float]]) -> Inside:
    def inside(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    return inside


def _star(inner: float) -> Inside:
    corners = [(inner if k % 2 else 1.0, np.pi * (k / 5 - 0.5)) for k in range(10)]
    return _polygon([(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in corners])


def _lobed_heart(drop: float) -> Inside:
    """Two discs above the tip that their common tangents meet in, `drop` below the discs' centres."""
    a, r = 0.48, 0.52
    reach = float(np.hypot(a, drop))
    turn = np.arctan2(drop, a) - np.arccos(r / reach)
    touch = (a + r * np.cos(turn), r * np.sin(turn))
    body = _polygon([(0.0, drop), touch, (0.0, -0.2), (-touch[0], touch[1])])
    return lambda x, y: ((np.abs(x) - a) ** 2 + y**2 <= r * r) | body(x, y)


def _curve_heart(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(u^2 + v^2 - 1)^3 <= u^2 v^3, the sextic heart."""
    u, v = x * 1.14, -y * 1.14
    return (u * u + v * v - 1) ** 3 <= u * u * v**3


def _wave_heart() -> Inside:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    v = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _polygon(list(zip(np.sin(t) ** 3, -v / 16, strict=True)))


OUTLINES: dict[str, tuple[Inside, ...]] = {
    "circle": (lambda x, y: x * x + y * y <= 1,),
    "square": (lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 1,),
    "triangle": tuple(_polygon([(0.0, -h), (1.0, h), (-1.0, h)]) for h in (0.866, 1.0)),
    "star": tuple(_star(inner) for inner in (0.42, 0.382, 0.5)),
    "heart": (_wave_heart(), _curve_heart, _lobed_heart(1.2)),
    "ring": tuple(
        (lambda x, y, h=h: (x * x + y * y <= 1) & (x * x + y * y >= h * h)) for h in (0.52, 0.45, 0.6)
    ),
    "cross": tuple(
        (lambda x, y, a=a: (np.maximum(np.abs(x), np.abs(y)) <= 1) & (np.minimum(np.abs(x), np.abs(y)) <= a))
        for a in (0.32, 0.26, 0.38)
    ),
    "diamond": tuple((lambda x, y, a=a: np.abs(x) / a + np.abs(y) <= 1) for a in (0.72, 0.85, 1.0)),
}


# Half width of these at nominal size 1, measured on true drawings: they are drawn smaller to look as large.
NOMINAL = {"circle": 0.95, "square": 0.845, "ring": 0.975}

# Least likeness: about 0.03 below the worst true drawing after blur and noise, which cost thin parts most.
LEAST = {
    "circle": 0.92,
    "square": 0.90,
    "triangle": 0.89,
    "star": 0.81,
    "heart": 0.865,
    "ring": 0.86,
    "cross": 0.87,
    "diamond": 0.875,
}


def raster(inside: Inside, x: float, y: float, extent: float, side: int, fine: int = 3) -> Plane:
    """Coverage [side, side] of an outline centred at (x, y) with this half extent (fractions of the side)."""
    n = side * fine
    axis = (np.arange(n) + 0.5) / n
    u, v = np.meshgrid((axis - x) / extent, (axis - y) / extent)
    return inside(u, v).reshape(side, fine, side, fine).mean((1, 3)).astype(np.float32)


def whole(mask: Mask) -> Fit:
    """The shape of an object nothing hides."""
    sample, x, y, unit = _normalise(mask.astype(np.float32))
    names, rows, extents = _table()
    both = np.minimum(rows, sample).sum(1) / np.maximum(rows, sample).sum(1)
    holed = _hole_share(mask) > HOLE
    # A ring has a hole and nothing else has: topology overrules likeness.
    both = np.where([(name == "ring") == holed for name in names], both, both * 0.5)
    best, score, margin = _rank(names, both)
    side = mask.shape[0]
    return _fit(names[best], score, margin, x / side, y / side, float(extents[best]) * unit / side, None)


def hidden(mask: Mask, other: Mask) -> Fit:
    """The shape of an object partly hidden by `other`: the best outline over all places and scales."""
    unknown = ndimage.binary_dilation(other & ~mask, iterations=2) & ~mask
    seen, free = _shrink(mask.astype(np.float32)), _shrink((~unknown).astype(np.float32))
    spectra = _spectra()
    hits = fft.irfft2(spectra * fft.rfft2(seen), s=seen.shape)
    areas = fft.irfft2(spectra * fft.rfft2(free), s=seen.shape)
    score = hits / np.maximum(areas + seen.sum() - hits, 1e-3)
    likely = np.argsort(score.reshape(len(SHAPES), -1).max(1))[:-4:-1]
    fits = sorted((_refine(seen, free, SHAPES[k], score[k]) for k in likely), key=lambda fit: -fit[0])
    top, (x, y, extent), cover, name = fits[0]
    return _fit(name, top, top - fits[1][0], x / COARSE, y / COARSE, extent / COARSE, cover)


def overlap(cover: Plane, mask: Mask) -> float:
    """The part of a fitted outline that lies on the mask."""
    return float((cover * _shrink(mask.astype(np.float32))).sum() / max(float(cover.sum()), 1e-3))


def _refine(seen: Plane, free: Plane, name: str, score: Plane) -> tuple[float, list[float], Plane, str]:
    """Walk from the coarse best place and scale to the best finer ones; all outlines of the name take part.

    Works at COARSE pixels; answers (likeness, [x, y, half extent] in coarse pixels, coverage, name).
    """
    scale, row, column = np.unravel_index(int(score.argmax()), score.shape)
    at = [column + 0.5, row + 0.5, SCALES[scale] * COARSE]
    seen = seen * free

    def rate(stamp: Plane, place: list[float]) -> tuple[float, Plane]:
        cover = _stamped(stamp, place)
        seeable = cover * free
        return float(
            np.minimum(seeable, seen).sum() / max(float(np.maximum(seeable, seen).sum()), 1e-3)
        ), cover

    value, cover, stamp = max(((*rate(o, at), o) for o in _stamps()[name]), key=lambda r: r[0])
    for size in (0.6, 0.3, 0.15):
        for axis in (0, 1, 2, 0, 1):
            for sign in (-1, 1):
                moved = [a + sign * size * (k == axis) for k, a in enumerate(at)]
                trial, plane = rate(stamp, moved)
                if trial > value:
                    value, cover, at = trial, plane, moved
    return value, at, cover, name


def _stamped(stamp: Plane, place: list[float]) -> Plane:
    """Coverage [COARSE, COARSE] of an outline sampled from its stamp at [x, y, half extent] in coarse pixels."""
    x, y, extent = place
    reach = STAMP_REACH * extent
    low = [max(int(c - reach), 0) for c in (y, x)]
    high = [min(int(c + reach) + 1, COARSE) for c in (y, x)]
    rows, columns = (
        ((np.arange(a, b) + 0.5 - c) / reach + 1) * STAMP / 2 - 0.5
        for a, b, c in zip(low, high, (y, x), strict=True)
    )
    cover = np.zeros((COARSE, COARSE), np.float32)
    part = ndimage.map_coordinates(stamp, np.meshgrid(rows, columns, indexing="ij"), order=1, prefilter=False)
    cover[low[0] : high[0], low[1] : high[1]] = part
    return cover


def _fit(
    name: str, score: float, margin: float, x: float, y: float, extent: float, cover: Plane | None
) -> Fit:
    return Fit(name, score, margin, x, y, extent / NOMINAL.get(name, 1.0), cover)


def _rank(names: list[str], scores: NDArray[np.float64]) -> tuple[int, float, float]:
    best = int(scores.argmax())
    others = max(float(s) for name, s in zip(names, scores, strict=True) if name != names[best])
    return best, float(scores[best]), float(scores[best]) - others


def _normalise(cover: Plane) -> tuple[Plane, float, float, float]:
    """([GRID * GRID] samples about the centroid in units of sqrt(area), x, y, sqrt(area))."""
    area = float(cover.sum())
    y, x = (float((cover.sum(1 - k) * (np.arange(cover.shape[k]) + 0.5)).sum()) / area for k in (0, 1))
    unit = area**0.5
    axis = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    points = np.meshgrid(y + axis * REACH * unit - 0.5, x + axis * REACH * unit - 0.5, indexing="ij")
    sample = ndimage.map_coordinates(cover, np.stack(points).reshape(2, -1), order=1, prefilter=False)
    return sample.astype(np.float32), x, y, unit


def _hole_share(mask: Mask) -> float:
    filled = ndimage.binary_fill_holes(mask)
    return 1 - float(mask.sum()) / max(float(np.sum(filled)), 1.0)


def _shrink(plane: Plane) -> Plane:
    step = plane.shape[0] // COARSE
    return plane.reshape(COARSE, step, COARSE, step).mean((1, 3))


@lru_cache(1)
def _table() -> tuple[list[str], Plane, Plane]:
    """Names, samples [n, GRID * GRID] and nominal half extents in units of sqrt(area) of all outlines."""
    names, rows, extents = [], [], []
    for name in SHAPES:
        for inside in OUTLINES[name]:
            sample, _, _, unit = _normalise(raster(inside, 0.5, 0.5, 0.3, 128, fine=4))
            names.append(name)
            rows.append(sample)
            extents.append(0.3 * 128 / unit)
    return names, np.stack(rows), np.asarray(extents, np.float32)


@lru_cache(1)
def _stamps() -> dict[str, tuple[Plane, ...]]:
    """Every outline rasterised large, STAMP pixels over +-STAMP_REACH half extents, softened by a coarse pixel."""
    return {
        name: tuple(
            ndimage.gaussian_filter(raster(inside, 0.5, 0.5, 0.5 / STAMP_REACH, STAMP), 1.5)
            for inside in outlines
        )
        for name, outlines in OUTLINES.items()
    }


@lru_cache(1)
def _spectra() -> NDArray[np.complex64]:
    """Conjugate spectra [shapes, scales, COARSE, COARSE / 2 + 1] of each name's first outline, centre at pixel 0."""
    middle = 0.5 + 0.5 / COARSE
    planes = [[raster(OUTLINES[n][0], middle, middle, e, COARSE) for e in SCALES] for n in SHAPES]
    centred = fft.ifftshift(np.asarray(planes, np.float32), axes=(-2, -1))
    return np.conj(fft.rfft2(centred))
