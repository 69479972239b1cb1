"""Guidance rescale: the contrast that strong guidance adds taken back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.option import Option
from .spec import Evaluation, Guidance, Setting, guidance


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """`guided` moved by `share` towards cond's standard deviation over an image."""
    return torch.lerp(guided, guided * (_std(cond) / _std(guided)), share)


def _std(x: Tensor) -> Tensor:
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)


@guidance(
    "rescale",
    label="Guidance rescale",
    paper="2305.08891",
    aliases=("cfg_rescale",),
    options=(Option("share", 0.7, 0.0, 1.0, "how much of the contrast is taken back"),),
)
class Rescale(Guidance):
    """phi g std(cond) / std(g) + (1 - phi) g, the deviations over an image (section 3.4)."""

    def __init__(self, setting: Setting, share: float) -> None:
        super().__init__(setting)
        self.share = share

    def finish(self, at: Evaluation, guided: Tensor) -> Tensor:
        return guided if at.uncond is None else rescaled(guided, at.cond, self.share)
