"""The latent-diffusion UNet; attribute names are those of ``model.diffusion_model.`` in SD1, SD2 and SDXL files."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.blocks import ResBlock, Upsample
from ..core.encoder import Encoder, Stage, leaving, transformer
from ..core.patch import Hooks
from ..core.unet_config import UNetConfig

__all__ = ["UNet", "UNetConfig"]


class UNet(Encoder):
    """Predicts noise (or velocity, or x0) from a noisy latent, a timestep and a text context."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.output_blocks = nn.ModuleList(_output_blocks(config))
        width = config.model_channels
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, config.out_channels, 3, padding=1)
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """x [b, in, h, w], timesteps [b], context [b, tokens, context_dim], y [b, adm] -> [b, out, h, w]."""
        emb = F.silu(self.embedding(timesteps, y, x))
        skips: list[Tensor] = []
        for n, stage in enumerate(self.input_blocks):
            x = stage(x, emb, context, hooks, ("input", n))
            x = leaving(hooks, ("input", n), x)
            skips.append(x)
        x = self.middle_block(x, emb, context, hooks, ("middle", 0))
        x = leaving(hooks, ("middle", 0), x)
        for n, stage in enumerate(self.output_blocks):
            skip = skips.pop()
            skip = hooks.residual(("output", n), skip) if hooks else skip
            x, skip = hooks.entering(("output", n), x, skip) if hooks else (x, skip)
            size = skips[-1].shape[-2:] if skips else None
            x = stage(torch.cat([x, skip], dim=1), emb, context, hooks, ("output", n), size)
            x = hooks.changed(("output", n), x) if hooks else x
        return self.out(x)


def _output_blocks(c: UNetConfig) -> list[Stage]:
    """One more ResNet a level than on the way down, each taking one skip connection."""
    stages: list[Stage] = []
    emb, left, channels = c.model_channels * 4, c.skips(), c.widths[-1]
    for level, width in reversed(list(enumerate(c.widths))):
        blocks, depth = c.num_res_blocks[level] + 1, c.transformer_depth[level]
        for i in range(blocks):
            layers: list[nn.Module] = [ResBlock(channels + left.pop(), emb, width)]
            channels = width
            if depth:
                layers.append(transformer(c, channels, depth))
            if level and i == blocks - 1:
                layers.append(Upsample(channels))
            stages.append(Stage(*layers))
    return stages
