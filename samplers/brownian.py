"""Brownian paths that are a function of their seed: the same whatever is asked, in whatever order, on every machine.

The axis t > 0 is cut into octaves [2^k, 2^(k+1)), whose increments are independent. Inside an octave W is Levy's
construction: the midpoint of a cell of width w deviates from the mean of its ends by N(0, w / 4), eight times over,
and a place inside the last cell by the bridge's own N(0, (t - left) (right - t) / w). So W(b) - W(a) is N(0, b - a),
exactly, and jointly so for places of different cells.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache

import numpy as np

from .counter import normals

LEVELS = 8  # midpoints below an octave: neighbours in a schedule of 1000 steps lie in different cells
BITS = 12  # places are rounded to 2^-12 of their octave: sigmas of a host in single precision share one with ours
LOWEST = -24  # below 2^LOWEST lies one cell, divided like an octave
COARSE = 4  # levels whose draws neighbouring places often share
RECENT_DRAWS, RECENT_PLACES = 8, 3
OCTAVE, MIDPOINT, INSIDE, PAIR, FRESH, KINDS = range(6)
Place = tuple[int, int]  # octave, 2^-BITS parts of it
Draw = tuple[int, int, int, int]  # kind, octave, level, cell


def place_of(t: float) -> Place:
    """t rounded. Below 2^LOWEST the octave is LOWEST - 1, which begins at 0."""
    if t < 2.0**LOWEST:
        octave, part = LOWEST - 1, round(t * 2.0 ** (BITS - LOWEST))
    else:
        mantissa, exponent = math.frexp(t)
        octave, part = exponent - 1, round((2 * mantissa - 1) * 2**BITS)
    return (octave + 1, 0) if part == 2**BITS else (octave, part)


def width(octave: int) -> float:
    """From the octave's beginning to its end."""
    return 2.0 ** max(octave, LOWEST)


def value_of(place: Place) -> float:
    """The t of a place."""
    octave, part = place
    start = 0.0 if octave < LOWEST else width(octave)
    return start + width(octave) * part / 2**BITS


def terms(place: Place) -> list[tuple[float, Draw]]:
    """(weight, draw): W(t) - W(start of the octave) is the sum of weight * normal(draw)."""
    octave, part = place
    scale, key = math.sqrt(width(octave)), octave - LOWEST + 1
    found: list[tuple[float, Draw]] = [(scale * part / 2**BITS, (OCTAVE, key, 0, 0))]
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
    """W over t >= 0 of one seed, for `size` independent elements; the coarse draws and the last places are kept.

    Args:
        stream: paths of one seed and different streams are independent.
    """

    def __init__(self, seed: int, size: int, stream: int = 0) -> None:
        self.seed, self.size, self.first = seed, size, stream * KINDS
        self._scratch = np.empty(size + size % 2, dtype=np.float32)
        self._coarse = lru_cache(RECENT_DRAWS)(lambda *draw: self._new(draw))
        self._within = lru_cache(RECENT_PLACES)(self._sum)

    def way(self, low: float, high: float) -> tuple[np.ndarray, float]:
        """W(high) - W(low) for 0 <= low < high, float64, and its variance, high - low but for rounding.

        Of two places inside one cell of the last level (2^-8 of an octave) it is a draw of its own.
        """
        start, end = place_of(low), place_of(high)
        if _same_cell(start, end):
            ends = struct.unpack("<2Q", struct.pack("<2d", low, high))
            way = self._new((PAIR, *ends, 0))[: self.size].astype(np.float64)
            return way * math.sqrt(high - low), high - low
        way = self._within(end) - self._within(start)
        for octave in range(start[0], end[0]):
            self._add(way, math.sqrt(width(octave)), (OCTAVE, octave - LOWEST + 1, 0, 0))
        return way[: self.size], value_of(end) - value_of(start)

    def fresh(self, number: int) -> np.ndarray:
        """N(0, 1) that is no part of the path, float32, for each number another."""
        return self._new((FRESH, number, 0, 0))[: self.size]

    def _new(self, draw: Draw) -> np.ndarray:
        return self._fill(draw, np.empty_like(self._scratch))

    def _fill(self, draw: Draw, out: np.ndarray) -> np.ndarray:
        return normals(self.seed, (self.first + draw[0], *draw[1:]), out)

    def _sum(self, place: Place) -> np.ndarray:
        total = np.zeros(self._scratch.shape)
        for weight, draw in terms(place):
            self._add(total, weight, draw)
        return total

    def _add(self, total: np.ndarray, weight: float, draw: Draw) -> None:
        kind, _, level, _ = draw
        kept = kind == OCTAVE or (kind == MIDPOINT and level < COARSE)
        normal = self._coarse(*draw) if kept else self._fill(draw, self._scratch)
        total += np.multiply(normal, np.float32(weight), out=self._scratch)


def _same_cell(start: Place, end: Place) -> bool:
    size = 2 ** (BITS - LEVELS)
    return start == end or (
        start[0] == end[0] and start[1] // size == end[1] // size and start[1] % size != 0
    )


Share = tuple[float, float]  # of signal and of noise, which add up to 1


class SharePath:
    """W over the signal's share of the variance, 0 to 1, as fine near 1 as near 0: two paths that meet at 1 / 2."""

    def __init__(self, seed: int, size: int) -> None:
        self._noisy, self._clear = (BrownianPath(seed, size, stream) for stream in (0, 1))
        self._fresh = 0

    def step(self, start: Share, end: Share) -> np.ndarray:
        """(W(end) - W(start)) / sqrt(end - start) for a growing share: N(0, 1), float32."""
        ways = []
        if start[0] < 0.5:
            ways.append(self._noisy.way(start[0], min(end[0], 0.5)))
        if end[1] < 0.5:
            ways.append(self._clear.way(end[1], min(start[1], 0.5)))
        total, variance = ways[0]
        for way, length in ways[1:]:
            total, variance = total + way, variance + length
        return (total * (1 / math.sqrt(variance))).astype(np.float32)

    def fresh(self) -> np.ndarray:
        """N(0, 1) that is no part of the path; each call gives the next."""
        self._fresh += 1
        return self._noisy.fresh(self._fresh)
