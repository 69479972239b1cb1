"""Brownian paths that are a function of their seed: the same whatever is asked, in whatever order, on every machine.

The axis u > 0 is cut into octaves [2^k, 2^(k+1)), whose increments are independent. Inside an octave W is Levy's
construction: the midpoint of a cell of width w deviates from the mean of its ends by N(0, w / 4), eight times over,
and a place inside the last cell by the bridge's own N(0, (u - left) (right - u) / w). So W(b) - W(a) is N(0, b - a),
exactly, and jointly so for places of different cells.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache

import numpy as np

from .counter import normals

LEVELS = 8  # midpoints below an octave: neighbours in a schedule of 1000 steps lie in different cells
BITS = 16  # places are rounded to 2^-16 of their octave: sigmas that differ by rounding share one
LOWEST, HIGHEST = -20, 64  # below 2^LOWEST is one cell like an octave, above 2^HIGHEST is 2^HIGHEST
COARSE = 4  # levels whose draws neighbouring places often share
RECENT_DRAWS, RECENT_PLACES = 8, 3
OCTAVE, MIDPOINT, INSIDE, PAIR, FRESH = range(5)
Place = tuple[int, int]  # octave, 2^-BITS parts of it
Draw = tuple[int, int, int, int]  # kind, octave, level, cell


def place_of(u: float) -> Place:
    """u rounded. Below 2^LOWEST the octave is LOWEST - 1, which begins at 0."""
    if u < 2.0**LOWEST:
        octave, part = LOWEST - 1, round(u * 2.0 ** (BITS - LOWEST))
    else:
        mantissa, exponent = math.frexp(min(u, 2.0**HIGHEST))
        octave, part = exponent - 1, round((2 * mantissa - 1) * 2**BITS)
    return (octave + 1, 0) if part == 2**BITS else (octave, part)


def width(octave: int) -> float:
    """From the octave's beginning to its end."""
    return 2.0 ** max(octave, LOWEST)


def value_of(place: Place) -> float:
    """The u of a place."""
    octave, part = place
    start = 0.0 if octave < LOWEST else width(octave)
    return start + width(octave) * part / 2**BITS


def terms(place: Place) -> list[tuple[float, Draw]]:
    """(weight, draw): W(u) - W(start of the octave) is the sum of weight * normal(draw)."""
    octave, part = place
    scale, key = math.sqrt(width(octave)), octave - LOWEST + 1
    found = [(scale * part / 2**BITS, (OCTAVE, key, 0, 0))]
    for level in range(LEVELS + 1):
        cell, inside = divmod(part, 2 ** (BITS - level))
        if inside == 0:
            break
        share = inside / 2 ** (BITS - level)
        tent, kind = min(share, 1 - share), MIDPOINT
        if level == LEVELS:
            tent, kind, cell = math.sqrt(share * (1 - share)), INSIDE, part
        found.append((scale * 2 ** (-level / 2) * tent, (kind, key, level, cell)))
    return found


class BrownianPath:
    """W of one seed, for `size` independent elements; the coarse draws and the last places are kept."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        self._scratch = np.empty(size + size % 2, dtype=np.float32)
        self._coarse = lru_cache(RECENT_DRAWS)(
            lambda *where: normals(seed, where, np.empty_like(self._scratch))
        )
        self._within = lru_cache(RECENT_PLACES)(self._sum)
        self._fresh = 0

    def step(self, low: float, high: float) -> np.ndarray:
        """(W(high) - W(low)) / sqrt(high - low) for 0 <= low < high: N(0, 1), float32.

        Of two places inside one cell of the last level (2^-8 of an octave) it is a draw of its own.
        """
        start, end = place_of(low), place_of(high)
        if _same_cell(start, end):
            return self._new(PAIR, *struct.unpack("<2Q", struct.pack("<2d", low, high)), 0)
        way = self._within(end) - self._within(start)
        for octave in range(start[0], end[0]):
            self._add(way, math.sqrt(width(octave)), (OCTAVE, octave - LOWEST + 1, 0, 0))
        way *= 1 / math.sqrt(value_of(end) - value_of(start))
        return way[: self.size].astype(np.float32)

    def fresh(self) -> np.ndarray:
        """N(0, 1) that is no part of the path; each call gives the next."""
        self._fresh += 1
        return self._new(FRESH, self._fresh, 0, 0)

    def _new(self, *where: int) -> np.ndarray:
        return normals(self.seed, where, np.empty_like(self._scratch))[: self.size]

    def _sum(self, place: Place) -> np.ndarray:
        total = np.zeros(self._scratch.shape)
        for weight, draw in terms(place):
            self._add(total, weight, draw)
        return total

    def _add(self, total: np.ndarray, weight: float, draw: Draw) -> None:
        kind, _, level, _ = draw
        if kind == OCTAVE or (kind == MIDPOINT and level < COARSE):
            normal = self._coarse(*draw)
        else:
            normal = normals(self.seed, draw, self._scratch)
        total += np.multiply(normal, np.float32(weight), out=self._scratch)


def _same_cell(start: Place, end: Place) -> bool:
    size = 2 ** (BITS - LEVELS)
    return start == end or (
        start[0] == end[0] and start[1] // size == end[1] // size and start[1] % size != 0
    )
