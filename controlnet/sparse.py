"""SparseCtrl: a ControlNet over the frames of a clip, of which only some carry a hint (arXiv:2311.16933).

The noisy latent does not enter (it is zeroed; conv_in's bias stays), the hint has one more channel, 1 on frames that
carry one, and every input block with a ResNet is followed by attention over the frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..core.patch import Inputs
from ..core.temporal import MotionModule
from ..core.unet_config import UNetConfig
from .network import ControlNet


@dataclass(frozen=True)
class Clip:
    """Encoded hints [clips * frames, channels, h, w] of clips of `frames` frames, frame after frame.

    `joint`: the motion modules' group norms go over all frames of a clip, as in diffusers; by the authors' code
    each frame has its own.
    """

    features: Tensor
    frames: int
    joint: bool = False


class SparseControlNet(ControlNet):
    """`lengths`: the most frames of the motion module after each input block that has one."""

    def __init__(self, config: UNetConfig, hint_widths: Sequence[int], lengths: Mapping[int, int]) -> None:
        super().__init__(config, hint_widths)
        self.longest = min(lengths.values())  # the most frames of a clip
        skips = config.skips()
        self.motion_modules = nn.ModuleDict(
            {str(n): MotionModule(skips[n], length) for n, length in lengths.items()}
        )

    def forward(self, inputs: Inputs, condition: Clip) -> list[Tensor]:
        return super().forward(replace(inputs, x=torch.zeros_like(inputs.x)), condition)

    def enter(self, x: Tensor, condition: Clip) -> Tensor:
        return x + condition.features

    def between(self, n: int, x: Tensor, condition: Clip) -> Tensor:
        module = str(n)
        if module not in self.motion_modules:
            return x
        return self.motion_modules[module](x, condition.frames, condition.joint)
