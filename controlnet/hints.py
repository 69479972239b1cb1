"""Pictures as a network takes them: brought to the size that is drawn, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import OptionError


def to_hint(image: Image.Image) -> Tensor:
    """[1, 3, H, W] in 0..1; pixels that are wholly transparent become -1, which inpaint models take as masked."""
    if image.mode != "RGBA":
        return _unit(image.convert("RGB")).permute(2, 0, 1)[None]
    pixels = _unit(image).permute(2, 0, 1)[None]
    return torch.where(pixels[:, 3:] < 0.5, -torch.ones_like(pixels[:, :3]), pixels[:, :3])


def to_mask(image: Image.Image) -> Tensor:
    """[1, 1, H, W] in 0..1."""
    return _unit(image.convert("L"))[None, None]


def _unit(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)


def stacked(hints: Sequence[Tensor], batch: int) -> Tensor:
    """One hint for each image of the batch; OptionError where there are neither one nor as many."""
    if len(hints) not in (1, batch):
        raise OptionError(
            f"{len(hints)} control pictures for {batch} images",
            expected=f"one, or one for each of the {batch}",
        )
    rows = torch.cat(list(hints))
    return rows.expand(batch, *rows.shape[1:])


class Masks:
    """A mask [1, 1, H, W] at whatever size a feature map has, averaged."""

    def __init__(self, mask: Tensor | None) -> None:
        self._mask = mask
        self._at: dict[tuple[int, int], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """x [b, c, h, w] times the mask."""
        if self._mask is None:
            return x
        size = (x.shape[-2], x.shape[-1])
        if size not in self._at:
            self._at[size] = F.adaptive_avg_pool2d(self._mask, size).to(x)
        return x * self._at[size]

    def tokens(self, x: Tensor, height: int, width: int) -> Tensor:
        """Tokens [b, height * width, c] times the mask."""
        if self._mask is None:
            return x
        return self(x.transpose(1, 2).unflatten(2, (height, width))).flatten(2).transpose(1, 2)
