"""Normal numbers as a function of (seed, place), the same bits on every machine and with every torch.

The words are Philox4x64-10's (Salmon et al. 2011), whose stream numpy promises to keep. The transform uses only
operations that IEEE 754 rounds alike everywhere (+ - * / and the square root), no log or sine of a library's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CHUNK = 8192  # words at a time: the temporaries stay in the cache
TURN = math.pi / 4 * 2.0**-31  # of a signed word: an eighth of the circle either way
CENTRE, LOG_2 = np.float32(math.sqrt(0.5)), np.float32(2 * math.log(2))
LOG = [np.float32(-4 / (2 * n + 1)) for n in range(5)]  # -4 artanh(s) / s in powers of s^2
SINE = [np.float32((-1) ** n / math.factorial(2 * n + 1)) for n in range(5)]
COSINE = [np.float32((-1) ** n / math.factorial(2 * n)) for n in range(6)]


def normals(seed: int, place: Sequence[int], out: np.ndarray) -> np.ndarray:
    """Fill `out`, float32 and of an even size, with numbers of N(0, 1).

    Args:
        seed: 0 to 2^64 - 1.
        place: four integers from 0 to 2^64 - 1 that no other draw of this seed has.
    """
    kind, *rest = place
    bits = np.random.Philox(key=_words(seed, kind), counter=_words(0, *rest))
    for start in range(0, len(out), 2 * CHUNK):
        part = out[start : start + 2 * CHUNK]
        box_muller(bits.random_raw(len(part) // 2), part)
    return out


def _words(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def box_muller(words: np.ndarray, out: np.ndarray) -> None:
    """Fill out [2 n] from n words of 64 bits: sqrt(-2 log u) (sin a, cos a), 32 bits each for u and a."""
    halves = words.astype("<u8", copy=False).view("<i4")
    n = len(words)
    radius = _radius(halves[:n])
    sine, cosine = _circle(halves[n:])
    np.multiply(radius, sine, out=out[:n])
    np.multiply(radius, cosine, out=out[n:])


def _radius(half: np.ndarray) -> np.ndarray:
    """sqrt(-2 log u), u = (half + 2^31 + 1/2) / 2^32 = m 2^e: log m = log c + 2 artanh((m - c) / (m + c))."""
    mantissa, exponent = np.frexp(half * 2.0**-32 + (0.5 + 2.0**-33))
    mantissa = mantissa.astype(np.float32)  # from 1/2 to 1
    s = (mantissa - CENTRE) / (mantissa + CENTRE)
    log = _polynomial(s * s, LOG)
    log *= s
    log -= exponent.astype(np.float32) * LOG_2
    log -= LOG_2 * np.float32(-0.5)
    return np.sqrt(np.maximum(log, np.float32(0), out=log), out=log)


def _circle(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sin, cos) of 4 * TURN * half: series up to pi / 4, then the angle doubled twice."""
    angle = (half * TURN).astype(np.float32)
    square = angle * angle
    sine, cosine = _polynomial(square, SINE), _polynomial(square, COSINE)
    sine *= angle
    for _ in range(2):
        sine, cosine = np.float32(2) * sine * cosine, np.float32(1) - np.float32(2) * sine * sine
    return sine, cosine


def _polynomial(x: np.ndarray, coefficients: Sequence[np.float32]) -> np.ndarray:
    """Horner's rule."""
    out = x * coefficients[-1]
    for coefficient in reversed(coefficients[1:-1]):
        out += coefficient
        out *= x
    out += coefficients[0]
    return out
