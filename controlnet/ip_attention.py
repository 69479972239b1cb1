"""The term an IP-Adapter adds to one cross-attention: w softmax(q K^T / sqrt(d)) V, K and V from the image's tokens.

arXiv:2308.06721, equation 5. K and V do not depend on the noise, so they are made once a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.blocks import attend
from ..core.errors import OptionError, nearest
from ..core.patch import StepInfo, rows_of
from .ip_weights import Gain

Weight = float | Tensor  # a number, or [n, 1, 1] one for each picture of the batch
Rows = tuple[int, ...]  # which images of the run an evaluation has, where not all of them
Scaled = tuple[Tensor, Tensor]  # K and V


def _penalised(weight: Weight, keys: Tensor) -> Weight:
    return weight * (keys.shape[-1] / 1280)


def _around_mean(keys: Tensor, values: Tensor, weight: Weight) -> Scaled:
    mean = values.mean(1, keepdim=True)
    return keys * weight, values - mean + mean * weight


# Where the weight acts: (K, V, weight) -> (K, V); w softmax(q K^T) V is softmax(q K^T) (w V), made once a run.
# The C penalty is weaker in narrow layers.
SCALINGS: dict[str, Callable[[Tensor, Tensor, Weight], Scaled]] = {
    "V only": lambda k, v, w: (k, v * w),
    "K+V": lambda k, v, w: (k * w, v * w),
    "K+V w/ C penalty": lambda k, v, w: (k * _penalised(w, k), v * _penalised(w, k)),
    "K+mean(V) w/ C penalty": lambda k, v, w: _around_mean(k, v, _penalised(w, k)),
}


def check_scaling(name: str) -> str:
    """The registered name of a scaling, whatever its capitals and spaces; OptionError with the nearest."""
    plain = {key.lower().replace(" ", ""): key for key in SCALINGS}
    short = plain.get(name.lower().replace(" ", "").replace("-", "").replace("_", ""))
    if short is None:
        raise OptionError(f"embeds scaling {name!r}", todo=nearest(name, SCALINGS))
    return short


@dataclass(frozen=True)
class Tokens:
    """The image's tokens for the prompt's half of a batch and for the negative half, [1 or n, tokens, width] each."""

    cond: Tensor
    uncond: Tensor

    def of(self, branch: str, swapped: bool) -> Tensor | None:
        """What a branch sees; None: nothing, as zero values would give."""
        if swapped:
            return None if branch == "cond" else self.cond
        return self.cond if branch == "cond" else self.uncond


@dataclass
class ImageTerm:
    """The term at one cross-attention; `to_k` and `to_v` [channels, width] are the file's matrices.

    `weight` is for picture k of a batch where it is a tensor; `mask` [1 or n, h, w] in 0..1 is where the image acts.
    """

    to_k: Tensor
    to_v: Tensor
    heads: int
    tokens: Tokens
    weight: Weight
    gain: Gain
    scaling: str
    mask: Tensor | None
    active: Callable[[StepInfo], bool]
    _kept: dict[tuple[object, ...], Scaled] = field(default_factory=dict)
    _pairs: dict[tuple[object, ...], Scaled] = field(default_factory=dict)
    _masks: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> Tensor:
        """q [b, n, channels] -> the term in its shape (0 where it does not act now)."""
        if not self.active(info):
            return q.new_zeros(())
        branches = info.branches or ("cond",)
        out = attend(q, *self._prepared(branches, q, info.rows), self.heads)
        return out if self.mask is None else out * self._mask(q, info, len(branches))

    def _prepared(self, branches: tuple[str, ...], q: Tensor, rows: Rows) -> Scaled:
        key = (branches, len(q), q.device, q.dtype, rows)
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = self._prepare(branches, q, rows)
        return self._kept[key]

    def _prepare(self, branches: tuple[str, ...], q: Tensor, rows: Rows) -> Scaled:
        count = len(q) // len(branches)
        pairs = [
            tuple(self._each(x, count, rows) for x in self._projected(branch, q.device))
            for branch in branches
        ]
        width = max(keys.shape[1] for keys, _ in pairs)
        keys, values = (torch.cat([_widened(pair[i], width) for pair in pairs]).to(q) for i in (0, 1))
        weight = self.weight * self.gain.value
        if isinstance(weight, Tensor):
            weight = self._each(weight, count, rows).repeat(len(branches), 1, 1).to(q)
        return SCALINGS[self.scaling](keys, values, weight)

    def _projected(self, branch: str, device: torch.device) -> Scaled:
        """K and V [1 or n, tokens, channels] of what a branch sees; zeros for no image. Made once a run."""
        key = (branch, device)
        if key not in self._pairs:
            tokens = self.tokens.of(branch, self.gain.swapped)
            if tokens is None:
                zero = self.to_k.new_zeros(1, 1, len(self.to_k), device=device)
                self._pairs[key] = zero, zero
            else:
                matrices = (matrix.to(device) for matrix in (self.to_k, self.to_v))
                keys, values = (F.linear(tokens.to(device, matrix.dtype), matrix) for matrix in matrices)
                self._pairs[key] = keys, values
        return self._pairs[key]

    def _each(self, x: Tensor, count: int, rows: Rows) -> Tensor:
        if rows and len(x) > max(rows):
            x = rows_of(x, rows)
        if len(x) not in (1, count):
            raise OptionError(
                f"an IP-Adapter with images or weights for {len(x)} pictures, and a batch of {count}",
                expected="one for all, or one for each picture",
            )
        return x.expand(count, -1, -1)

    def _mask(self, q: Tensor, info: StepInfo, branches: int) -> Tensor:
        """[b, n, 1]: the share of each token's pixels that is in the mask."""
        if info.inputs is None:
            raise OptionError("an attention mask where the size of the picture is not told")
        grid = grid_of(q.shape[1], *info.inputs.x.shape[-2:])
        key = (grid, q.device, q.dtype)
        if key not in self._masks:
            assert self.mask is not None
            shares = F.adaptive_avg_pool2d(self.mask[:, None].float(), grid).flatten(1)[..., None]
            self._masks[key] = shares.to(q)
        return self._each(self._masks[key], len(q) // branches, info.rows).repeat(branches, 1, 1)


def _widened(x: Tensor, tokens: int) -> Tensor:
    """[n, t, c] repeated to `tokens`; attention to tokens repeated equally often is the same.

    What is no multiple of t belongs to no image, whose keys and values are zeros or repeat as one.
    """
    times, left = divmod(tokens, x.shape[1])
    if left:
        raise OptionError(f"{x.shape[1]} and {tokens} tokens of an image in one batch")
    return x.repeat(1, times, 1)


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """The size of a latent [height, width] at the depth where it has this many tokens (halves round up)."""
    while height * width > tokens and (height > 1 or width > 1):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != tokens:
        raise OptionError(f"{tokens} tokens are no halving of the latent, so a mask has no place on them")
    return height, width
