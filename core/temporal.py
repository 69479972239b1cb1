"""Attention over the frames of a clip, as AnimateDiff adds it to an image UNet (arXiv:2307.04725).

Activations are [clips * frames, channels, h, w], frame after frame; the tokens of one sequence are the frames of one
pixel. Attribute names are those of diffusers, without the positions' own module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .blocks import Attention, FeedForward
from .keymap import Table, rows

HEADS = 8
# how a function of tokens [n, frames, channels] is carried over more frames than it takes at once
Over = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]

# the authors' names of a module's parts, and diffusers' -> ours
PARTS: Mapping[str, str] = rows("""
    norm                                                   norm
    proj_in                                                proj_in
    proj_out                                               proj_out
    transformer_blocks.{n}.attention_blocks.0                transformer_blocks.{n}.attn1
    transformer_blocks.{n}.attention_blocks.1                transformer_blocks.{n}.attn2
    transformer_blocks.{n}.attention_blocks.0.pos_encoder.pe transformer_blocks.{n}.pe
    transformer_blocks.{n}.norms.0                           transformer_blocks.{n}.norm1
    transformer_blocks.{n}.norms.1                           transformer_blocks.{n}.norm2
    transformer_blocks.{n}.ff_norm                           transformer_blocks.{n}.norm3
    transformer_blocks.{n}.attn1                             transformer_blocks.{n}.attn1
    transformer_blocks.{n}.attn2                             transformer_blocks.{n}.attn2
    transformer_blocks.{n}.pos_embed.pe                      transformer_blocks.{n}.pe
    transformer_blocks.{n}.norm1                             transformer_blocks.{n}.norm1
    transformer_blocks.{n}.norm2                             transformer_blocks.{n}.norm2
    transformer_blocks.{n}.norm3                             transformer_blocks.{n}.norm3
    transformer_blocks.{n}.ff                                transformer_blocks.{n}.ff
""")


# path of a module, the authors' word between it and its parts, the part
MODULE = re.compile(
    r"((?:(?:down|up)_blocks\.\d+|mid_block)\.motion_modules\.\d+)(\.temporal_transformer)?\.(.*)"
)


def parts_table(left: str, right: str, blocks: int = 1) -> Table:
    """Every part of one module, under `left` in a file and under `right` in the network."""
    return {
        f"{left}.{theirs.format(n=n)}": f"{right}.{ours.format(n=n)}"
        for theirs, ours in PARTS.items()
        for n in range(blocks)
    }


def authors_name(path: str) -> str:
    """Our path of a module's part -> the authors': `...attn1.to_q` -> `...attention_blocks.0.to_q`."""
    match = MODULE.match(path)
    if match is None:
        return path
    part = re.sub(r"(?<=\.)attn([12])", lambda found: f"attention_blocks.{int(found[1]) - 1}", match[3])
    part = re.sub(r"(?<=\.)norm([12])", lambda found: f"norms.{int(found[1]) - 1}", part)
    return f"{match[1]}.temporal_transformer.{part.replace('.norm3', '.ff_norm')}"


def positions(length: int, width: int) -> Tensor:
    """[1, length, width]: sin and cos of place / 10000^(2i / width), one after the other (arXiv:1706.03762)."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([(place * rate).sin(), (place * rate).cos()], dim=2).flatten(1)[None]


class TemporalBlock(nn.Module):
    """One or two attentions over the frames, then a feed-forward; positions are added after each attention's norm."""

    def __init__(
        self, width: int, length: int, attentions: int = 1, heads: int = HEADS, stored: bool = True
    ) -> None:
        super().__init__()
        self.attentions = attentions
        for n in range(1, attentions + 1):
            setattr(self, f"norm{n}", nn.LayerNorm(width))
            setattr(self, f"attn{n}", Attention(width, width, heads))
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)
        self.pe: Tensor
        self.register_buffer("pe", positions(length, width), persistent=stored)

    def attend(self, x: Tensor) -> Tensor:
        """All attentions, on at most as many frames as there are positions."""
        places = self.pe[:, : x.shape[1]].to(x.dtype)
        for n in range(1, self.attentions + 1):
            x = x + getattr(self, f"attn{n}")(getattr(self, f"norm{n}")(x) + places)
        return x

    def forward(self, x: Tensor, over: Over | None = None) -> Tensor:
        x = self.attend(x) if over is None else over(self.attend, x)
        return x + self.ff(self.norm3(x))


class MotionModule(nn.Module):
    """x + proj_out(blocks(proj_in(norm(x)))), tokens are the frames of one pixel."""

    def __init__(
        self,
        width: int,
        length: int,
        attentions: int = 1,
        blocks: int = 1,
        heads: int = HEADS,
        stored: bool = True,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList(
            TemporalBlock(width, length, attentions, heads, stored) for _ in range(blocks)
        )
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: int, joint: bool = False, over: Over | None = None) -> Tensor:
        """x [clips * frames, width, h, w]. `joint`: the norm's statistics go over all frames of a clip."""
        tokens = self._normed(x, frames, joint).permute(0, 3, 4, 1, 2)
        spread = self.proj_in(tokens.flatten(0, 2))
        for block in self.transformer_blocks:
            spread = block(spread, over)
        out = self.proj_out(spread).unflatten(0, tokens.shape[:3]).permute(0, 3, 4, 1, 2)
        return x + out.flatten(0, 1)

    def _normed(self, x: Tensor, frames: int, joint: bool) -> Tensor:
        """[clips, frames, width, h, w]."""
        if not joint:
            return self.norm(x).unflatten(0, (-1, frames))
        return self.norm(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2)
