"""The ControlNet: a copy of the UNet's encoder that answers a residual for every skip connection (arXiv:2302.05543).

Attribute names are those of LDM files, without `control_model.`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..core.encoder import Encoder
from ..core.patch import Inputs
from ..core.unet_config import UNetConfig
from .hint import hint_encoder, hint_factor


class ControlNet(Encoder):
    """`hint_widths` are the channels of the hint's encoder, from the picture's to the model's."""

    def __init__(self, config: UNetConfig, hint_widths: Sequence[int]) -> None:
        super().__init__(config)
        self.hint_factor = hint_factor(hint_widths)
        self.input_hint_block = hint_encoder(hint_widths)
        self.zero_convs = nn.ModuleList(nn.Sequential(nn.Conv2d(n, n, 1)) for n in config.skips())
        width = config.widths[-1]
        self.middle_block_out = nn.Sequential(nn.Conv2d(width, width, 1))

    def features(self, hint: Tensor) -> Tensor:
        """The encoded picture, the same in every step: [b, c, H, W] in 0..1 -> [b, model_channels, h, w]."""
        return self.input_hint_block(hint)

    def forward(self, inputs: Inputs, condition: Any) -> list[Tensor]:
        """A residual for each input block in order, then the middle block's; `condition` as `enter` takes it."""
        x = inputs.x[:, : self.config.in_channels]
        emb = F.silu(self.embedding(inputs.timesteps, inputs.vector, x) + self.told(condition, x))
        out = []
        for n, (stage, zero) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            x = stage(x, emb, inputs.context, None, ("input", n))
            x = self.enter(x, condition) if n == 0 else self.between(n, x, condition)
            out.append(zero(x))
        x = self.middle_block(x, emb, inputs.context, None, ("middle", 0))
        return [*out, self.middle_block_out(x)]

    def told(self, condition: Any, like: Tensor) -> Tensor | float:
        """What is added to the embedding of time and vector."""
        return 0.0

    def enter(self, x: Tensor, condition: Any) -> Tensor:
        """The first feature map with the condition in it: here the features themselves are added."""
        return x + condition

    def between(self, n: int, x: Tensor, condition: Any) -> Tensor:
        """What leaves input block n."""
        return x
