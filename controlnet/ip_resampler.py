"""The perceiver that distils many image features into a few tokens.

Attribute names are the checkpoints', but for to_k and to_v, which original files fuse to one to_kv.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.blocks import attend
from ..core.shapes import Shapes, count

HEAD = 64  # channels a head in every published file


class PerceiverAttention(nn.Module):
    """Latents ask image features and themselves: softmax(q k^T / sqrt(d)) v, q from latents, k and v from both."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """x [b, m, width], latents [b, n, width] -> [b, n, width]."""
        latents = self.norm2(latents)
        both = torch.cat([self.norm1(x), latents], dim=1)
        q, k, v = self.to_q(latents), self.to_k(both), self.to_v(both)
        return self.to_out(attend(q, k, v, max(q.shape[-1] // HEAD, 1)))


def feed_forward(width: int, inner: int) -> nn.Sequential:
    """Linear(gelu(Linear(norm(x)))) without biases."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, width, bias=False),
    )


class Perceiver(nn.Module):
    """Latents refined by layers of attention to x and feed-forward, each added: norm_out(proj_out(latents)).

    arXiv:2103.03206 as in IP-Adapter (arXiv:2308.06721, the plus models).
    """

    def __init__(self, features: int, width: int, out: int, depth: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(features, width)
        self.proj_out = nn.Linear(width, out)
        self.norm_out = nn.LayerNorm(out)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, inner), feed_forward(width, hidden)])
            for _ in range(depth)
        )

    def refine(self, latents: Tensor, x: Tensor) -> Tensor:
        """latents [b, n, width], x [b, m, features] -> [b, n, out]."""
        x = self.proj_in(x)
        for attention, feed in self.layers:  # type: ignore[misc]
            latents = latents + attention(x, latents)
            latents = latents + feed(latents)
        return self.norm_out(self.proj_out(latents))


def perceiver_sizes(shapes: Shapes, prefix: str = "") -> tuple[int, int, int, int, int, int]:
    """(features, width, out, depth, inner, hidden) of the perceiver under `prefix` in a state dict's shapes."""
    width, features = shapes[f"{prefix}proj_in.weight"]
    depth = count(shapes, prefix + "layers.{}.0.to_q.weight")
    inner = shapes[f"{prefix}layers.0.0.to_q.weight"][0]
    hidden = shapes[f"{prefix}layers.0.1.1.weight"][0]
    return features, width, shapes[f"{prefix}proj_out.weight"][0], depth, inner, hidden
