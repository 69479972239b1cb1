"""The building blocks that UNet, ControlNet and motion modules share; attribute names are the LDM checkpoint's.

Activations are [batch, channels, height, width] in the layout of the weights. In channels_last, tokens
[batch, height * width, channels] are a view of them and attention copies nothing to change layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patch import Attention as AttentionName
from .patch import Block, Change, Extra, Hooks, Remake


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """[cos(t f_i), sin(t f_i)] with f_i = 10000^(-2i/width) (arXiv:2006.11239).

    timesteps [batch] -> [batch, width], fp32.
    """
    half = width // 2
    powers = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000.0) * powers)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + embedding)))."""

    def __init__(self, channels: int, emb_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, silu_emb: Tensor) -> Tensor:
        """``silu_emb`` is silu(time embedding) [batch, emb_channels]: the same for every block, so computed once."""
        h = self.in_layers(x) + self.emb_layers[1](silu_emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention softmax(q k^T / sqrt(d)) v with an output projection; self-attention without a context."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Identity())

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        extras: Sequence[Extra] = (),
        changes: Sequence[Change] = (),
        remakes: Sequence[Remake] = (),
    ) -> Tensor:
        source = x if context is None else context
        inputs = (x, source, source)
        for change in changes:
            inputs = change(*inputs)
        q, k, v = self.to_q(inputs[0]), self.to_k(inputs[1]), self.to_v(inputs[2])
        out = attend(q, k, v, self.heads)
        for remake in remakes:
            out = remake(out, q, k, v)
        for extra in extras:
            out = out + extra(q, k, v)
        return self.to_out[0](out)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d)) v by heads: q [batch, n, channels], k, v [batch, m, channels] -> q's shape."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(-2)


class GEGLU(nn.Module):
    """a * gelu(b) with [a, b] = proj(x) (arXiv:2002.05202)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Linear(GEGLU(x)), four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GEGLU(channels, channels * 4), nn.Identity(), nn.Linear(channels * 4, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each on a layer norm and added to its input."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, context_dim, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        hooks: Hooks | None = None,
        block: Block = ("middle", 0),
        index: int = 0,
    ) -> Tensor:
        at = [_at(hooks, block, index, name) for name in ("attn1", "attn2")] if hooks else ((), ())
        x = x + self.attn1(self.norm1(x), None, *at[0])
        x = x + self.attn2(self.norm2(x), context, *at[1])
        return x + self.ff(self.norm3(x))


def _at(
    hooks: Hooks, block: Block, index: int, attention: AttentionName
) -> tuple[Sequence[Extra], Sequence[Change], Sequence[Remake]]:
    place = (block, index, attention)
    return hooks.attention(*place), hooks.projected(*place), hooks.made(*place)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (latent diffusion, arXiv:2112.10752).

    SD1 projects in and out with 1x1 convolutions, SD2 and SDXL with linear layers; both are one matrix on tokens.
    """

    def __init__(self, channels: int, context_dim: int, heads: int, depth: int, use_linear: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if use_linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, context_dim, heads) for _ in range(depth)
        )
        self.proj_out = nn.Linear(channels, channels) if use_linear else nn.Conv2d(channels, channels, 1)

    def forward(
        self, x: Tensor, context: Tensor, hooks: Hooks | None = None, block: Block = ("middle", 0)
    ) -> Tensor:
        tokens = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        tokens = _project(self.proj_in, tokens)
        for index, layer in enumerate(self.transformer_blocks):
            tokens = layer(tokens, context, hooks, block, index)
        out = _project(self.proj_out, tokens).unflatten(1, x.shape[-2:])
        return x + out.permute(0, 3, 1, 2)


def _project(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1x1 convolution, applied to tokens [batch, n, channels]."""
    if not isinstance(layer, nn.Conv2d):
        return layer(tokens)
    if layer._forward_hooks:  # an adapter adds a term to what the layer is called with
        return layer(tokens.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
    return F.linear(tokens, layer.weight[:, :, 0, 0], layer.bias)


class Downsample(nn.Module):
    """Half the resolution by a strided 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour resize to ``size`` (height, width), then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))
