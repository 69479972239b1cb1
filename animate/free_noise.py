"""FreeNoise (arXiv:2310.15169): long clips from the noise of a short one, attention over frames in windows.

Unlike windows over the whole network, all frames are in one evaluation; only their attention to each other is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest
from ..core.temporal import Over
from .windows import FUSE, Window, fused

Permutation = Callable[[int], Tensor]  # n -> 0 ... n - 1 in some order


@dataclass(frozen=True)
class FreeNoise:
    """Windows of `length` frames each `stride` further; `noise` says where that of later frames comes from."""

    length: int = 16
    stride: int = 4
    fuse: str = "pyramid"
    noise: str = "shuffle_context"

    def __post_init__(self) -> None:
        for name, value, known in (("fuse", self.fuse, FUSE), ("noise", self.noise, NOISES)):
            if value not in known:
                raise OptionError(f"FreeNoise with {name} {value!r}", todo=nearest(value, known))
        if not 1 <= self.stride <= self.length:
            raise OptionError(f"FreeNoise with stride {self.stride}", expected=f"1 to {self.length}")

    def windows(self, frames: int) -> list[Window]:
        """All windows; the last one gives only the frames that no other has (equation 8)."""
        if frames < self.length:
            return [Window(tuple(range(frames)), (1.0,) * frames)]
        weights = FUSE[self.fuse](self.length)
        starts = list(range(0, frames - self.length + 1, self.stride))
        found = [Window(tuple(range(at, at + self.length)), weights) for at in starts]
        if left := frames - (starts[-1] + self.length):
            last = tuple(range(frames - self.length, frames))
            found.append(Window(last[-left:], weights[-left:]))
        return found

    def over(self, frames: int) -> Over:
        """Attention over `frames` as the mean of that in the windows."""
        windows = self.windows(frames)

        def attend(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            def see(window: Window) -> Tensor:
                end = window.rows[-1] + 1
                begin = max(end - self.length, 0)
                return function(x[:, begin:end])[:, window.rows[0] - begin :]

            return fused(windows, see, x, 1)

        return attend

    def rescheduled(self, noise: Tensor, dim: int, permutation: Permutation) -> Tensor:
        """The noise of all frames along `dim`, from that of the first `length` of them (section 4.1)."""
        order = NOISES[self.noise](self, noise.shape[dim], permutation)
        return noise.index_select(dim, torch.tensor(order, device=noise.device))


def _shuffled(free: FreeNoise, frames: int, permutation: Permutation) -> list[int]:
    """Each `stride` later frames have the noise of those `length` before them, in another order."""
    order = list(range(frames))
    for start in range(free.length, frames, free.stride):
        first = start - free.length
        source = [order[first + int(k)] for k in permutation(min(free.stride, frames - first))]
        order[start : start + free.stride] = source[: frames - start]
    return order


NOISES: dict[str, Callable[[FreeNoise, int, Permutation], list[int]]] = {
    "shuffle_context": _shuffled,
    "repeat_context": lambda free, frames, permutation: [k % free.length for k in range(frames)],
    "random": lambda free, frames, permutation: list(range(frames)),
}
