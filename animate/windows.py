"""Windows over the frames of a clip, and what is found in them fused: a clip of any length with a window's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Window:
    """The frames seen together, and the weight of what is found for each of them."""

    rows: tuple[int, ...]
    weights: Weights


def _flat(length: int) -> Weights:
    return (1.0,) * length


def _pyramid(length: int) -> Weights:
    return tuple(float(min(place, length - 1 - place) + 1) for place in range(length))


def _delayed_reverse_sawtooth(length: int) -> Weights:
    """Next to nothing up to the middle, then falling: each frame is left to the window that it is early in."""
    top = math.ceil(length / 2)
    plateau = () if length % 2 else (float(top),)
    return (0.01,) * (top - 1) + plateau + tuple(map(float, range(top, 0, -1)))


FUSE: dict[str, Callable[[int], Weights]] = {
    "pyramid": _pyramid,
    "flat": _flat,
    "delayed_reverse_sawtooth": _delayed_reverse_sawtooth,
}


@dataclass(frozen=True)
class Plan:
    """How a clip is cut: `length` frames a window, `overlap` shared with the next, every `stride`-th frame at most.

    `kind`: "static", the same windows at every step; "uniform", moved at each step; "looped", the same and across the
    end of the clip to its beginning. Strides above 1 add windows over every 2nd, 4th ... frame (context stride).
    """

    length: int = 16
    overlap: int = 4
    kind: str = "uniform"
    stride: int = 1
    fuse: str = "pyramid"

    def __post_init__(self) -> None:
        for name, table in (("kind", KINDS), ("fuse", FUSE)):
            if getattr(self, name) not in table:
                raise OptionError(
                    f"windows with {name} {getattr(self, name)!r}", todo=nearest(getattr(self, name), table)
                )
        if self.length < 1:
            raise OptionError(f"windows of {self.length} frames", expected="1 or more")
        if not 0 <= self.overlap < self.length:
            raise OptionError(f"an overlap of {self.overlap}", expected=f"0 to {self.length - 1}")
        if not 1 <= self.stride <= 16:
            raise OptionError(f"a stride of {self.stride}", expected="1 to 16")

    def windows(self, frames: int, step: int = 0) -> list[Window]:
        """The windows of one step; one of all frames where they fit."""
        if frames <= self.length:
            return [Window(tuple(range(frames)), _flat(frames))]
        rows = dict.fromkeys(KINDS[self.kind](self, frames, step))
        return [Window(each, FUSE[self.fuse](len(each))) for each in rows]


Rows = tuple[int, ...]


def _static(plan: Plan, frames: int, step: int) -> list[Rows]:
    last = frames - plan.length
    starts = [*range(0, last, plan.length - plan.overlap), last]
    return [tuple(range(start, start + plan.length)) for start in starts]


def _looped(plan: Plan, frames: int, step: int) -> list[Rows]:
    found: list[Rows] = []
    for stride in _strides(plan, frames, frames // plan.length):
        for start in _starts(plan, frames, step, stride):
            found.append(tuple((start + place * stride) % frames for place in range(plan.length)))
    return found


def _uniform(plan: Plan, frames: int, step: int) -> list[Rows]:
    """As looped, with the windows that leave the clip moved back into it."""
    found: list[Rows] = []
    for stride in _strides(plan, frames, (frames - 1) // max(plan.length - 1, 1)):
        last = frames - 1 - (plan.length - 1) * stride
        starts = [min(start % frames, last) for start in _starts(plan, frames, step, stride)]
        ends = [0, last] if stride == 1 else []
        for start in sorted({*starts, *ends}):
            found.append(tuple(range(start, start + (plan.length - 1) * stride + 1, stride)))
    return found


KINDS: dict[str, Callable[[Plan, int, int], list[Rows]]] = {
    "uniform": _uniform,
    "looped": _looped,
    "static": _static,
}


def _strides(plan: Plan, frames: int, most: int) -> list[int]:
    """1, 2, 4 ... as many as asked for, as long as a window fits."""
    return [stride for n in range(plan.stride) if (stride := 2**n) == 1 or stride <= most]


def _starts(plan: Plan, frames: int, step: int, stride: int) -> range:
    """Beginnings of windows once round the clip, moved on by a fraction that halves ever finer with the steps."""
    moved = round(frames * halved(step))
    return range(moved, frames + moved, plan.length * stride - plan.overlap)


def halved(number: int) -> float:
    """The van der Corput sequence: 0, 1/2, 1/4, 3/4, 1/8, 5/8 ..."""
    value, unit = 0.0, 0.5
    while number:
        value, number, unit = value + unit * (number & 1), number >> 1, unit / 2
    return value


def fused(windows: Sequence[Window], see: Callable[[Window], Tensor], like: Tensor, dim: int) -> Tensor:
    """Sum over windows of weight * what it sees / sum of weights, for each frame of `like` along `dim`."""
    if len(windows) == 1 and windows[0].rows == tuple(range(like.shape[dim])):
        return see(windows[0])
    total = torch.zeros_like(like, dtype=torch.float32)
    places, sums = _placed(tuple(windows), like.shape[dim], like.device)
    for window, (rows, weights) in zip(windows, places, strict=True):
        total.index_add_(dim, rows, see(window).float() * shaped(weights, like, dim))
    return (total / shaped(sums, like, dim)).to(like.dtype)


@lru_cache(maxsize=64)
def _placed(
    windows: tuple[Window, ...], frames: int, device: torch.device
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """(rows, weights) of each window, and the sum of weights of each frame; kept, as every layer asks for them."""
    places = [(torch.tensor(w.rows, device=device), torch.tensor(w.weights, device=device)) for w in windows]
    sums = torch.zeros(frames, device=device)
    for rows, weights in places:
        sums.index_add_(0, rows, weights)
    return places, sums


def shaped(weights: Tensor, like: Tensor, dim: int) -> Tensor:
    """[n] -> n along `dim` of a tensor like this."""
    return weights.reshape([-1 if place == dim % like.ndim else 1 for place in range(like.ndim)])
