"""The unconditional UNet of pixel-space DDPM models (arXiv:2006.11239); attribute names are those of the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import FileError

DOWN, UP = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")
# entries of a config.json that this network has in one form only
FIXED = {
    "act_fn": "silu",
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "class_embed_type": None,
    "num_class_embeds": None,
    "mid_block_scale_factor": 1,
    "center_input_sample": False,
}


@dataclass(frozen=True)
class PixelUNetConfig:
    """Sizes as config.json has them; `head_dim` None is one head."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    blocks: int
    attends_down: tuple[bool, ...]
    attends_up: tuple[bool, ...]
    head_dim: int | None
    groups: int
    eps: float
    downsample_padding: int
    cosine_first: bool
    freq_shift: float
    middle_attends: bool

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> PixelUNetConfig:
        """From a config.json; FileError for an entry or a block this network does not have."""
        for name, only in FIXED.items():
            if said.get(name, only) != only:
                raise FileError(f"{name} {said[name]!r}", "config.json of UNet2DModel", f"{only!r}")
        down, up = said["down_block_types"], said["up_block_types"]
        for kind in (*down, *up):
            if kind not in (*DOWN, *UP):
                raise FileError(f"block {kind!r}", "config.json of UNet2DModel", ", ".join((*DOWN, *UP)))
        return cls(
            said["in_channels"],
            said["out_channels"],
            tuple(said["block_out_channels"]),
            said["layers_per_block"],
            tuple("Attn" in kind for kind in down),
            tuple("Attn" in kind for kind in up),
            said.get("attention_head_dim", 8),
            said.get("norm_num_groups", 32),
            said.get("norm_eps", 1e-5),
            said.get("downsample_padding", 1),
            said.get("flip_sin_to_cos", True),
            said.get("freq_shift", 0),
            said.get("add_attention", True),
        )


class Residual(nn.Module):
    """ResNet block that is told the time."""

    def __init__(self, c: PixelUNetConfig, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(c.groups, channels, eps=c.eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * c.widths[0], out)
        self.norm2 = nn.GroupNorm(c.groups, out, eps=c.eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.conv_shortcut = nn.Conv2d(channels, out, 1)
        self.same = channels == out

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.same else self.conv_shortcut(x)) + h


class Attention(nn.Module):
    """Self-attention over pixels, added to its input."""

    def __init__(self, c: PixelUNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // (c.head_dim or channels)
        self.group_norm = nn.GroupNorm(c.groups, channels, eps=c.eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out[0](out).transpose(1, 2).unflatten(2, x.shape[2:])


class Resample(nn.Module):
    """Half or twice the resolution, by a convolution."""

    def __init__(self, channels: int, padding: int | None = None) -> None:
        super().__init__()
        self.padding = padding  # of a step down; None is a step up
        stride, pad = (1, 1) if padding is None else (2, padding)
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=pad)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding is None:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        elif self.padding == 0:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Level(nn.Module):
    """One resolution: ResNets, attention after each, and the step to the next."""

    def __init__(self, c: PixelUNetConfig, widths: list[tuple[int, int]], attends: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(c, into, out) for into, out in widths)
        if attends:
            self.attentions = nn.ModuleList(Attention(c, out) for _, out in widths)
        self.attends = attends

    def at(self, n: int, x: Tensor, emb: Tensor) -> Tensor:
        """ResNet n and its attention."""
        x = self.resnets[n](x, emb)
        return self.attentions[n](x) if self.attends else x


class Middle(nn.Module):
    """ResNet, attention, ResNet."""

    def __init__(self, c: PixelUNetConfig, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(c, width, width) for _ in range(2))
        if c.middle_attends:
            self.attentions = nn.ModuleList([Attention(c, width)])

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.resnets[0](x, emb)
        if hasattr(self, "attentions"):
            x = self.attentions[0](x)
        return self.resnets[1](x, emb)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep through two linear layers."""

    def __init__(self, c: PixelUNetConfig) -> None:
        super().__init__()
        self.config = c
        self.linear_1 = nn.Linear(c.widths[0], 4 * c.widths[0])
        self.linear_2 = nn.Linear(4 * c.widths[0], 4 * c.widths[0])

    def forward(self, timesteps: Tensor) -> Tensor:
        half = self.config.widths[0] // 2
        places = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps[:, None].float() * torch.exp(
            places * (-math.log(10000.0) / (half - self.config.freq_shift))
        )
        waves = [angles.cos(), angles.sin()] if self.config.cosine_first else [angles.sin(), angles.cos()]
        x = torch.cat(waves, dim=1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(x)))


class PixelUNet(nn.Module):
    """x [b, c, h, w], timesteps [b] -> [b, c, h, w]."""

    def __init__(self, c: PixelUNetConfig) -> None:
        super().__init__()
        self.config = c
        self.conv_in = nn.Conv2d(c.in_channels, c.widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(c)
        self.down_blocks = nn.ModuleList(_down(c))
        self.mid_block = Middle(c, c.widths[-1])
        self.up_blocks = nn.ModuleList(_up(c))
        self.conv_norm_out = nn.GroupNorm(c.groups, c.widths[0], eps=c.eps)
        self.conv_out = nn.Conv2d(c.widths[0], c.out_channels, 3, padding=1)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        emb = F.silu(self.time_embedding(timesteps))
        x = self.conv_in(x)
        skips = [x]
        for level in self.down_blocks:
            for n in range(len(level.resnets)):  # type: ignore[arg-type]
                x = level.at(n, x, emb)  # type: ignore[operator]
                skips.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0](x)  # type: ignore[index,operator]
                skips.append(x)
        x = self.mid_block(x, emb)
        for level in self.up_blocks:
            for n in range(len(level.resnets)):  # type: ignore[arg-type]
                x = level.at(n, torch.cat([x, skips.pop()], dim=1), emb)  # type: ignore[operator]
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0](x)  # type: ignore[index,operator]
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _down(c: PixelUNetConfig) -> list[Level]:
    levels = []
    for i, (into, width) in enumerate(pairwise([c.widths[0], *c.widths])):
        level = Level(c, [(into, width), *[(width, width)] * (c.blocks - 1)], c.attends_down[i])
        if i < len(c.widths) - 1:
            level.downsamplers = nn.ModuleList([Resample(width, c.downsample_padding)])
        levels.append(level)
    return levels


def _up(c: PixelUNetConfig) -> list[Level]:
    """One more ResNet a level than on the way down, each taking one skip connection."""
    levels, reverse = [], c.widths[::-1]
    for i, width in enumerate(reverse):
        above, below = reverse[max(i - 1, 0)], reverse[min(i + 1, len(reverse) - 1)]
        skips = [width] * c.blocks + [below]
        widths = [((above if n == 0 else width) + skip, width) for n, skip in enumerate(skips)]
        level = Level(c, widths, c.attends_up[i])
        if i < len(reverse) - 1:
            level.upsamplers = nn.ModuleList([Resample(width)])
        levels.append(level)
    return levels
