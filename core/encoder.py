"""The half of a latent-diffusion UNet that ControlNets copy: time embedding, input blocks, middle block.

Attribute names are those of ``model.diffusion_model.`` in SD1, SD2 and SDXL files.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import Downsample, ResBlock, SpatialTransformer, Upsample, timestep_embedding
from .patch import Block, Hooks
from .unet_config import UNetConfig


class Stage(nn.Sequential):
    """One numbered input, middle or output block: any of ResNet, transformer, resampling, convolution, in order."""

    @property
    def inner(self) -> int:
        """How many layers come before the place inside: the first, and a transformer after it."""
        return 2 if len(self) > 1 and isinstance(self[1], SpatialTransformer) else 1

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        silu_emb: Tensor,
        context: Tensor,
        hooks: Hooks | None,
        block: Block,
        size: Sequence[int] | None = None,
    ) -> Tensor:
        for n, layer in enumerate(self):
            if hooks and n == self.inner:
                x = hooks.changed(block, x, inside=True)
            if isinstance(layer, ResBlock):
                x = layer(x, silu_emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, hooks, block)
            elif isinstance(layer, Upsample):
                x = layer(x, size)
            else:
                x = layer(x)
        return hooks.changed(block, x, inside=True) if hooks and self.inner == len(self) else x


class Encoder(nn.Module):
    """What UNet and ControlNet have in common."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = c = config
        emb = c.model_channels * 4
        self.time_embed = _mlp(c.model_channels, emb)
        if c.adm_in_channels is not None:
            self.label_emb = nn.Sequential(_mlp(c.adm_in_channels, emb))
        self.input_blocks = nn.ModuleList(_input_blocks(c, emb))
        width = c.widths[-1]
        attention = [transformer(c, width, c.transformer_depth_middle)] if c.transformer_depth_middle else []
        self.middle_block = Stage(ResBlock(width, emb, width), *attention, ResBlock(width, emb, width))

    def embedding(self, timesteps: Tensor, y: Tensor | None, like: Tensor) -> Tensor:
        """The sum of the time's and the vector's embeddings [b, 4 model_channels], in like's dtype."""
        emb = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(like.dtype))
        if self.config.adm_in_channels is not None:
            emb = emb + self.label_emb(y)
        return emb


def leaving(hooks: Hooks | None, block: Block, x: Tensor) -> Tensor:
    """What leaves an input or middle block, with all that patches do there."""
    return hooks.residual(block, hooks.changed(block, x)) if hooks else x


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))


def transformer(c: UNetConfig, channels: int, depth: int) -> SpatialTransformer:
    """A transformer of these sizes at a width of `channels`."""
    return SpatialTransformer(channels, c.context_dim, c.heads(channels), depth, c.use_linear)


def _input_blocks(c: UNetConfig, emb: int) -> list[Stage]:
    stages = [Stage(nn.Conv2d(c.in_channels, c.model_channels, 3, padding=1))]
    channels = c.model_channels
    for level, width in enumerate(c.widths):
        depth = c.transformer_depth[level]
        for _ in range(c.num_res_blocks[level]):
            attention = [transformer(c, width, depth)] if depth else []
            stages.append(Stage(ResBlock(channels, emb, width), *attention))
            channels = width
        if level < len(c.widths) - 1:
            stages.append(Stage(Downsample(width)))
    return stages
