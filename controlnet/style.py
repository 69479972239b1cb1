"""T2I's style adapter: CLIP's view of a picture as further words of the prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.shapes import Shapes, count, require
from .clip_block import ResidualAttention


class StyleAdapter(nn.Module):
    """`tokens` learned tokens beside CLIP ViT-L/14's last hidden state, `layers` blocks, projected to the context."""

    def __init__(self, width: int, context: int, tokens: int, layers: int) -> None:
        super().__init__()
        self.style_embedding = nn.Parameter(torch.zeros(1, tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer_layes = nn.Sequential(*(ResidualAttention(width) for _ in range(layers)))
        self.proj = nn.Parameter(torch.zeros(width, context))

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> StyleAdapter:
        """A network of a file's sizes."""
        width, context = require(shapes, "proj", "a style adapter")
        tokens = require(shapes, "style_embedding", "a style adapter")[1]
        return cls(width, context, tokens, count(shapes, "transformer_layes.{}.ln_1.weight"))

    def forward(self, hidden: Tensor) -> Tensor:
        """CLIP's hidden state [b, 257, 1024] -> tokens [b, tokens, context]."""
        own = self.style_embedding.expand(len(hidden), -1, -1)
        x = self.transformer_layes(self.ln_pre(torch.cat([hidden, own], dim=1)))
        return self.ln_post(x[:, -own.shape[1] :]) @ self.proj
