"""CLIP's transformer block, which ControlNet-Union and the style adapter borrow; names as in their files."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear(quick_gelu(Linear(x))), quick_gelu(x) = x sigmoid(1.702 x), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, width * 4)
        self.c_proj = nn.Linear(width * 4, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        return self.c_proj(x * torch.sigmoid(1.702 * x))


class ResidualAttention(nn.Module):
    """x + attention(norm(x)), then + mlp(norm(x)), on tokens [b, n, width]."""

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = nn.LayerNorm(width)

    def attend(self, tokens: Tensor) -> Tensor:
        """Attention over the n tokens."""
        return self.attn(tokens, tokens, tokens, need_weights=False)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))
