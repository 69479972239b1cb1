"""SparseCtrl: a ControlNet over the frames of a clip, of which only some carry a hint (arXiv:2311.16933).

The noisy latent does not enter (it is zeroed; conv_in's bias stays), the hint has one more channel, 1 on frames that
carry one, and every input block with a ResNet is followed by attention over the frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..core.blocks import Attention, FeedForward
from ..core.patch import Inputs
from ..core.unet_config import UNetConfig
from .network import ControlNet

HEADS = 8


@dataclass(frozen=True)
class Clip:
    """Encoded hints [clips * frames, channels, h, w] of clips of `frames` frames, frame after frame.

    `joint`: the motion modules' group norms go over all frames of a clip, as in diffusers; by the authors' code
    each frame has its own.
    """

    features: Tensor
    frames: int
    joint: bool = False


def positions(length: int, width: int) -> Tensor:
    """[1, length, width]: sin and cos of place / 10000^(2i / width), one after the other (arXiv:1706.03762)."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([(place * rate).sin(), (place * rate).cos()], dim=2).flatten(1)[None]


class _TemporalBlock(nn.Module):
    """Attention over the frames and a feed-forward; positions are added after the norm (AnimateDiff)."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, width, HEADS)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)
        self.pe: Tensor
        self.register_buffer("pe", positions(length, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x) + self.pe[:, : x.shape[1]].to(x.dtype))
        return x + self.ff(self.norm3(x))


class MotionModule(nn.Module):
    """x + proj_out(blocks(proj_in(norm(x)))), tokens are the frames of one pixel."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([_TemporalBlock(width, length)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: int, joint: bool = False) -> Tensor:
        """x [clips * frames, width, h, w]."""
        tokens = self._normed(x, frames, joint).permute(0, 3, 4, 1, 2)
        spread = self.proj_in(tokens.flatten(0, 2))
        for block in self.transformer_blocks:
            spread = block(spread)
        out = self.proj_out(spread).unflatten(0, tokens.shape[:3]).permute(0, 3, 4, 1, 2)
        return x + out.flatten(0, 1)

    def _normed(self, x: Tensor, frames: int, joint: bool) -> Tensor:
        """[clips, frames, width, h, w]."""
        if not joint:
            return self.norm(x).unflatten(0, (-1, frames))
        return self.norm(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2)


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
