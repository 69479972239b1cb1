"""CLIP's text transformer (arXiv:2103.00020); attribute names are those of transformers' CLIPTextModel files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.blocks import attend
from ..core.shapes import Shapes, count, require

Act = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text encoder; ``projection`` is the pooled output's width, None where the file has none."""

    vocab: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    max_length: int = 77
    act: Act = "quick_gelu"
    projection: int | None = None

    @classmethod
    def from_shapes(cls, shapes: Shapes, act: Act | None = None) -> TextConfig:
        """The sizes in a state dict's shapes (names starting ``text_model.``); FileError where one is missing.

        Neither heads nor activation leave a trace: every published CLIP text encoder has one head for each 64
        channels, and all but OpenAI's (768 wide, no larger) use the exact GELU.
        """
        vocab, width = require(shapes, "text_model.embeddings.token_embedding.weight", "a text encoder")
        fc1 = require(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder")
        projection = shapes.get("text_projection.weight")
        return cls(
            vocab=vocab,
            width=width,
            layers=count(shapes, "text_model.encoder.layers.{}.mlp.fc1.weight"),
            heads=max(width // 64, 1),
            intermediate=fc1[0],
            max_length=require(shapes, "text_model.embeddings.position_embedding.weight", "a text encoder")[
                0
            ],
            act=act or ("quick_gelu" if width <= 768 else "gelu"),
            projection=projection[0] if projection else None,
        )


class SelfAttention(nn.Module):
    """Causal multi-head self-attention with biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads, causal=True))


class MLP(nn.Module):
    """fc2(act(fc1(x)))."""

    def __init__(self, width: int, intermediate: int, act: Act) -> None:
        super().__init__()
        self.act = act
        self.fc1 = nn.Linear(width, intermediate)
        self.fc2 = nn.Linear(intermediate, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(F.gelu(h) if self.act == "gelu" else h * torch.sigmoid(1.702 * h))


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each on a layer norm and added to its input."""

    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(c.width, c.heads)
        self.layer_norm1 = nn.LayerNorm(c.width)
        self.mlp = MLP(c.width, c.intermediate, c.act)
        self.layer_norm2 = nn.LayerNorm(c.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """Token and position tables."""

    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(c.vocab, c.width)
        self.position_embedding = nn.Embedding(c.max_length, c.width)


class Layers(nn.Module):
    """The stack of encoder layers, one name deep as in the files."""

    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c.layers))


class TextModel(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(c)
        self.encoder = Layers(c)
        self.final_layer_norm = nn.LayerNorm(c.width)


class TextEncoder(nn.Module):
    """Tokens -> hidden states for cross-attention, and one pooled vector."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextModel(config)
        if config.projection is not None:
            self.text_projection = nn.Linear(config.width, config.projection, bias=False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [b, n] -> token embeddings [b, n, width], without positions."""
        return self.text_model.embeddings.token_embedding(tokens)

    def forward(
        self, embeds: Tensor, eos_index: Tensor, layer: int = -1, final_norm: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Token embeddings [b, n, width] -> (hidden states [b, n, width], pooled [b, projection or width]).

        ``layer`` counts from the end (-1 the last, -2 the one before it); ``final_norm`` puts the final layer norm on
        these hidden states. The pooled vector is always the last layer's, normed, at ``eos_index`` [b], projected.
        """
        model = self.text_model
        x = embeds + model.embeddings.position_embedding.weight[: embeds.shape[1]].to(embeds.dtype)
        layers = model.encoder.layers
        chosen = x
        for n, encoder_layer in enumerate(layers, start=1):
            x = encoder_layer(x)
            if n == len(layers) + 1 + layer:
                chosen = x
        last = model.final_layer_norm(x)
        pooled = last[torch.arange(len(last), device=last.device), eos_index.to(last.device)]
        if self.config.projection is not None:
            pooled = self.text_projection(pooled)
        return (model.final_layer_norm(chosen) if final_norm else chosen), pooled
