"""The latent-diffusion UNet; attribute names are those of ``model.diffusion_model.`` in SD1, SD2 and SDXL files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as _integers

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.blocks import Downsample, ResBlock, SpatialTransformer, Upsample, timestep_embedding
from ..core.errors import FileError
from ..core.patch import Block, Hooks
from ..core.shapes import Shapes, count, require


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; tuples have one entry a level. Heads: a fixed number (SD1) or a fixed width (SD2, SDXL)."""

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    transformer_depth: tuple[int, ...] = (1, 1, 1, 0)
    transformer_depth_middle: int = 1
    context_dim: int = 768
    adm_in_channels: int | None = None
    use_linear: bool = False
    num_heads: int | None = 8
    head_dim: int | None = None

    def heads(self, channels: int) -> int:
        """Attention heads at a width of ``channels``."""
        return self.num_heads or channels // (self.head_dim or 64)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> UNetConfig:
        """The sizes in a state dict's shapes (names without ``model.diffusion_model.``).

        The number of heads leaves no trace in the shapes: it is 8 where proj_in is a convolution (SD1) and one for
        each 64 channels where it is linear (SD2, SDXL). FileError where a tensor every UNet has is missing.
        """
        conv_in = require(shapes, "input_blocks.0.0.weight", "a UNet")
        levels = _levels(shapes)
        context = next((s for name, s in shapes.items() if name.endswith("attn2.to_k.weight")), None)
        proj_in = next((s for name, s in shapes.items() if name.endswith(".proj_in.weight")), None)
        if context is None or proj_in is None:
            raise FileError("a UNet without cross-attention", expected="an SD1, SD2 or SDXL UNet")
        label = shapes.get("label_emb.0.0.weight")
        use_linear = len(proj_in) == 2
        return cls(
            in_channels=conv_in[1],
            out_channels=require(shapes, "out.2.weight", "a UNet")[0],
            model_channels=conv_in[0],
            channel_mult=tuple(width // conv_in[0] for width, _, _ in levels),
            num_res_blocks=tuple(blocks for _, blocks, _ in levels),
            transformer_depth=tuple(depth for _, _, depth in levels),
            transformer_depth_middle=count(shapes, "middle_block.1.transformer_blocks.{}.norm1.weight"),
            context_dim=context[1],
            adm_in_channels=label[1] if label else None,
            use_linear=use_linear,
            num_heads=None if use_linear else 8,
            head_dim=64 if use_linear else None,
        )


def _levels(shapes: Shapes) -> list[tuple[int, int, int]]:
    """(width, ResNets, transformer depth) of each resolution, read from the input blocks."""
    levels: list[tuple[int, int, int]] = []
    width = blocks = depth = 0
    for n in _integers(1):
        conv = shapes.get(f"input_blocks.{n}.0.out_layers.3.weight")
        if conv is None:
            levels.append((width, blocks, depth))
            blocks = 0
            if f"input_blocks.{n}.0.op.weight" not in shapes:
                break
            continue
        width, blocks = conv[0], blocks + 1
        depth = count(shapes, f"input_blocks.{n}.1.transformer_blocks.{{}}.norm1.weight")
    return levels


class Stage(nn.Sequential):
    """One numbered input, middle or output block: any of ResNet, transformer, resampling, convolution, in order."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        silu_emb: Tensor,
        context: Tensor,
        hooks: Hooks | None,
        block: Block,
        size: Sequence[int] | None = None,
    ) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, silu_emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, hooks, block)
            elif isinstance(layer, Upsample):
                x = layer(x, size)
            else:
                x = layer(x)
        return x


class UNet(nn.Module):
    """Predicts noise (or velocity, or x0) from a noisy latent, a timestep and a text context."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = c = config
        emb = c.model_channels * 4
        self.time_embed = _mlp(c.model_channels, emb)
        if c.adm_in_channels is not None:
            self.label_emb = nn.Sequential(_mlp(c.adm_in_channels, emb))
        widths = [c.model_channels * m for m in c.channel_mult]
        self.input_blocks, skips = _input_blocks(c, widths, emb)
        middle = widths[-1]
        attention = (
            [_transformer(c, middle, c.transformer_depth_middle)] if c.transformer_depth_middle else []
        )
        self.middle_block = Stage(ResBlock(middle, emb, middle), *attention, ResBlock(middle, emb, middle))
        self.output_blocks = _output_blocks(c, widths, emb, skips)
        self.out = nn.Sequential(
            nn.GroupNorm(32, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], c.out_channels, 3, padding=1)
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
        emb = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(x.dtype))
        if self.config.adm_in_channels is not None:
            emb = emb + self.label_emb(y)
        emb = F.silu(emb)
        skips: list[Tensor] = []
        for n, stage in enumerate(self.input_blocks):
            x = stage(x, emb, context, hooks, ("input", n))
            x = hooks.residual(("input", n), x) if hooks else x
            skips.append(x)
        x = self.middle_block(x, emb, context, hooks, ("middle", 0))
        x = hooks.residual(("middle", 0), x) if hooks else x
        for n, stage in enumerate(self.output_blocks):
            skip = skips.pop()
            skip = hooks.residual(("output", n), skip) if hooks else skip
            size = skips[-1].shape[-2:] if skips else None
            x = stage(torch.cat([x, skip], dim=1), emb, context, hooks, ("output", n), size)
        return self.out(x)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))


def _transformer(c: UNetConfig, channels: int, depth: int) -> SpatialTransformer:
    return SpatialTransformer(channels, c.context_dim, c.heads(channels), depth, c.use_linear)


def _input_blocks(c: UNetConfig, widths: list[int], emb: int) -> tuple[nn.ModuleList, list[int]]:
    """The input blocks and the channels each hands to its skip connection."""
    stages = [Stage(nn.Conv2d(c.in_channels, c.model_channels, 3, padding=1))]
    skips = [c.model_channels]
    for level, width in enumerate(widths):
        for _ in range(c.num_res_blocks[level]):
            depth = c.transformer_depth[level]
            attention = [_transformer(c, width, depth)] if depth else []
            stages.append(Stage(ResBlock(skips[-1], emb, width), *attention))
            skips.append(width)
        if level < len(widths) - 1:
            stages.append(Stage(Downsample(width)))
            skips.append(width)
    return nn.ModuleList(stages), skips


def _output_blocks(c: UNetConfig, widths: list[int], emb: int, skips: list[int]) -> nn.ModuleList:
    """One more ResNet a level than on the way down, each taking one skip connection."""
    stages: list[Stage] = []
    channels, left = widths[-1], list(skips)
    for level in reversed(range(len(widths))):
        blocks = c.num_res_blocks[level] + 1
        for i in range(blocks):
            depth = c.transformer_depth[level]
            layers: list[nn.Module] = [ResBlock(channels + left.pop(), emb, widths[level])]
            channels = widths[level]
            if depth:
                layers.append(_transformer(c, channels, depth))
            if level and i == blocks - 1:
                layers.append(Upsample(channels))
            stages.append(Stage(*layers))
    return nn.ModuleList(stages)
