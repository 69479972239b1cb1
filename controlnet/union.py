"""ControlNet-Union: several types of hint in one pass, fused by a small transformer (xinsir's ControlNet++).

Each hint gives one token, mean_hw(features) + task_embedding[type];
h = conv_in(x) + sum_i (features_i + projection(token_i after the transformer)). The embedding of time gets one of the
types that are there. Layers carry the files' names, the misspelled one included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.blocks import timestep_embedding
from ..core.errors import OptionError, nearest
from ..core.unet_config import UNetConfig
from .clip_block import ResidualAttention
from .network import ControlNet

TYPES: dict[str, int] = {
    "openpose": 0,
    "pose": 0,
    "depth": 1,
    "hed": 2,
    "softedge": 2,
    "pidi": 2,
    "scribble": 2,
    "ted": 2,
    "canny": 3,
    "lineart": 3,
    "anime": 3,
    "mlsd": 3,
    "normal": 4,
    "segment": 5,
    "seg": 5,
    "tile": 6,
    "blur": 6,
    "repaint": 7,
    "inpaint": 7,
}


def type_index(name: str | int, count: int) -> int:
    """The number of a type in a file that knows `count` of them. OptionError for another."""
    index = TYPES.get(name, -1) if isinstance(name, str) else name
    if not 0 <= index < count:
        known = [word for word, number in TYPES.items() if number < count]
        raise OptionError(f"control type {name!r}", todo=nearest(str(name), known))
    return index


@dataclass(frozen=True)
class UnionHint:
    """Encoded hints [b, channels, h, w] with the type and the scale of each."""

    features: Sequence[Tensor]
    types: Sequence[int]
    scales: Sequence[float]


class _TokenWise(ResidualAttention):
    """The published network attends over the images of a batch, token by token, not over the tokens of an image.

    With the same picture in cond and uncond that is the value itself; so it is computed here, which keeps the images
    of a batch apart.
    """

    def attend(self, tokens: Tensor) -> Tensor:
        width = tokens.shape[-1]
        weight, bias = self.attn.in_proj_weight[2 * width :], self.attn.in_proj_bias[2 * width :]
        return self.attn.out_proj(nn.functional.linear(tokens, weight, bias))


class _TypeEmbedding(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(nn.functional.silu(self.linear_1(x)))


class UnionControlNet(ControlNet):
    """A ControlNet of `types` types of hint, each `numbers` sinusoids; `layers` blocks in its fusing transformer."""

    def __init__(
        self, config: UNetConfig, hint_widths: Sequence[int], types: int, layers: int = 1, numbers: int = 256
    ) -> None:
        super().__init__(config, hint_widths)
        width = config.model_channels
        self.types, self.numbers = types, numbers
        self.task_embedding = nn.Parameter(torch.zeros(types, width))
        self.transformer_layes = nn.Sequential(*(_TokenWise(width) for _ in range(layers)))
        self.spatial_ch_projs = nn.Linear(width, width)
        self.control_add_embedding = _TypeEmbedding(numbers * types, width * 4)

    def told(self, condition: UnionHint, like: Tensor) -> Tensor:
        """[1, 4 width] of which types are there; one that is not counts as the number 0, not as nothing."""
        numbers = torch.arange(self.types, device=like.device)
        there = torch.stack([numbers == number for number in condition.types]).any(0).float()
        return self.control_add_embedding(
            timestep_embedding(there, self.numbers).flatten()[None].to(like.dtype)
        )

    def enter(self, x: Tensor, condition: UnionHint) -> Tensor:
        scales = condition.scales
        tokens = [
            (f.mean(dim=(2, 3)) + self.task_embedding[i]) * s
            for f, i, s in zip(condition.features, condition.types, scales, strict=True)
        ]
        fused = self.transformer_layes(torch.stack(tokens, dim=1))
        for i, (features, scale) in enumerate(zip(condition.features, scales, strict=True)):
            x = x + (features + self.spatial_ch_projs(fused[:, i])[:, :, None, None]) * scale
        return x
