"""CFG-Zero*: the negative prompt's answer scaled to fit the prompt's, and first steps of zero."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.option import Option
from .spec import Evaluation, Guidance, Setting, guidance


@guidance(
    "cfg_zero",
    label="CFG-Zero*",
    paper="2503.18886",
    aliases=("cfg_zero_star",),
    options=(
        Option(
            "zero_steps",
            -1,
            -1,
            100,
            "first steps in which nothing is believed; -1: 1 on rectified flow, else none",
        ),
    ),
)
class CFGZero(Guidance):
    """s u + w (c - s u), s = <c, u> / <u, u> over an image, for the network's answers c and u (equation 9)."""

    def __init__(self, setting: Setting, zero_steps: int) -> None:
        super().__init__(setting)
        self.zero_steps = int(setting.flow) if zero_steps < 0 else zero_steps

    def baseline(self, at: Evaluation, uncond: Tensor) -> Tensor:
        cond, flat = at.cond.flatten(1), uncond.flatten(1)
        fit = (cond * flat).sum(1) / (flat.square().sum(1) + 1e-8)
        return uncond * fit.view(-1, *(1,) * (uncond.ndim - 1))

    def finish(self, at: Evaluation, guided: Tensor) -> Tensor:
        return torch.zeros_like(guided) if int(at.step + 1e-4) < self.zero_steps else guided
