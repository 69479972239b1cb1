"""The sizes of a latent-diffusion UNet or of its encoder alone, read from the shapes in a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count as _integers
from typing import Any, Literal

from .errors import FileError
from .patch import Block
from .shapes import Shapes, count, require


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

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.model_channels * m for m in self.channel_mult]

    def skips(self) -> list[int]:
        """The channels that each input block hands to its skip connection, in the order of the blocks."""
        skips = [self.model_channels]
        for level, width in enumerate(self.widths):
            down = level < len(self.widths) - 1
            skips += [width] * (self.num_res_blocks[level] + down)
        return skips

    def transformers(self) -> Iterator[tuple[Block, int, int]]:
        """(block, transformer depth, channels) of every block with attention: input, middle, output."""
        levels = list(zip(self.widths, self.num_res_blocks, self.transformer_depth, strict=True))
        yield from _numbered("input", 1, levels, 0)
        if self.transformer_depth_middle:
            yield ("middle", 0), self.transformer_depth_middle, self.widths[-1]
        yield from _numbered("output", 0, levels[::-1], 1)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> UNetConfig:
        """The sizes in a state dict's shapes (names without ``model.diffusion_model.``).

        The number of heads leaves no trace in the shapes: it is 8 where proj_in is a convolution (SD1) and one for
        each 64 channels where it is linear (SD2, SDXL). FileError where a tensor every UNet has is missing.
        """
        out_channels = require(shapes, "out.2.weight", "a UNet")[0]
        if not any(name.endswith("attn2.to_k.weight") for name in shapes):
            raise FileError("a UNet without cross-attention", expected="an SD1, SD2 or SDXL UNet")
        return replace(cls.of_encoder(shapes), out_channels=out_channels)

    @classmethod
    def of_encoder(cls, shapes: Shapes) -> UNetConfig:
        """The same of an encoder alone, as ControlNets have it; some have no attention at all (context_dim 0)."""
        conv_in = require(shapes, "input_blocks.0.0.weight", "a UNet's encoder")
        levels = _levels(shapes)
        context = next((s for name, s in shapes.items() if name.endswith("attn2.to_k.weight")), (0, 0))
        proj_in = next((s for name, s in shapes.items() if name.endswith(".proj_in.weight")), (0, 0))
        label = shapes.get("label_emb.0.0.weight")
        use_linear = len(proj_in) == 2
        return cls(
            in_channels=conv_in[1],
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


def _numbered(
    side: Literal["input", "output"], first: int, levels: list[tuple[int, int, int]], more: int
) -> Iterator[tuple[Block, int, int]]:
    """The blocks with attention of levels (width, ResNets, depth), counted with the one between two levels."""
    for width, blocks, depth in levels:
        for n in range(first, first + blocks + more if depth else first):
            yield (side, n), depth, width
        first += blocks + 1


def with_heads(config: UNetConfig, said: Mapping[str, Any]) -> UNetConfig:
    """The heads that a config.json of diffusers says; `attention_head_dim` is their number (its own misnomer).

    One for all levels or a list. FileError for numbers that are neither one number of heads nor heads of one width.
    """
    heads = said.get("num_attention_heads") or said.get("attention_head_dim")
    if heads is None:
        return config
    widths = [config.model_channels * m for m in config.channel_mult]
    each = heads if isinstance(heads, list) else [heads] * len(widths)
    used = [i for i, depth in enumerate(config.transformer_depth) if depth or i == len(widths) - 1]
    dims = {widths[i] // each[i] for i in used}
    if len(dims) == 1:
        return replace(config, num_heads=None, head_dim=dims.pop())
    if len({each[i] for i in used}) == 1:
        return replace(config, num_heads=each[-1], head_dim=None)
    raise FileError(
        f"heads {each} for widths {widths}", expected="one number of heads, or heads of one width"
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
