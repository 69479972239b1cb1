"""Which attention of a UNet each numbered layer of an IP-Adapter belongs to.

Files number the attentions as diffusers walks its processors: down blocks, up blocks, then the middle; in each
transformer block self-attention (even) before cross-attention (odd). Only the odd ones have to_k_ip and to_v_ip.
Weight types count transformers instead, in the order in which they run: input, middle, output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..core.errors import OptionError
from ..core.keymap import unet_table
from ..core.patch import Block
from ..core.unet_config import UNetConfig

_LDM = {"input": "input_blocks.{}.1", "middle": "middle_block.1", "output": "output_blocks.{}.1"}


@dataclass(frozen=True)
class Place:
    """One transformer block's attentions: numbers 2k (self) and 2k + 1 (cross) of a file."""

    number: int  # of the cross-attention
    block: Block
    index: int  # among the transformer blocks of this UNet block
    transformer: int  # among the UNet's transformers, in the order in which they run
    channels: int

    def module(self, number: int) -> str:
        """The LDM name of the attention with this number, the even or the odd one of this place."""
        attention = "attn2" if number % 2 else "attn1"
        return f"{ldm_name(self.block)}.transformer_blocks.{self.index}.{attention}"


def ldm_name(block: Block) -> str:
    """The spatial transformer of a block under the name of single-file checkpoints."""
    return _LDM[block[0]].format(block[1])


def places(config: UNetConfig) -> list[Place]:
    """Every transformer block of a UNet in the order of an IP-Adapter's numbers."""
    running = list(enumerate(config.transformers()))
    counted = sorted(running, key=lambda item: item[1][0][0] == "middle")  # stable: the middle goes last
    return [
        Place(2 * k + 1, block, index, transformer, channels)
        for k, (transformer, block, index, channels) in enumerate(_blocks(counted))
    ]


def _blocks(
    counted: list[tuple[int, tuple[Block, int, int]]],
) -> Iterator[tuple[int, Block, int, int]]:
    for transformer, (block, depth, channels) in counted:
        yield from ((transformer, block, index, channels) for index in range(depth))


def modules(config: UNetConfig) -> dict[int, str]:
    """Number of an attention, even ones included -> its LDM name."""
    return {n: place.module(n) for place in places(config) for n in (place.number - 1, place.number)}


def transformer_names(config: UNetConfig) -> dict[str, int]:
    """Every name a person may give a transformer -> its number in running order.

    The number itself, `input8`, `middle`, `output1`, and diffusers' `down_blocks.2.attentions.1`.
    """
    names: dict[str, int] = {}
    diffusers = {ldm: name for name, ldm in _attentions(config).items()}
    for number, (block, _, _) in enumerate(config.transformers()):
        short = "middle" if block[0] == "middle" else f"{block[0]}{block[1]}"
        names |= dict.fromkeys((str(number), short, diffusers[ldm_name(block)]), number)
    return names


def _attentions(config: UNetConfig) -> dict[str, str]:
    table = unet_table(config.num_res_blocks, [depth > 0 for depth in config.transformer_depth])
    return {name: ldm for name, ldm in table.items() if ".attentions." in name}


def check_layers(places: list[Place], layers: dict[int, tuple[int, ...]], where: object) -> None:
    """Every place has a layer of its width and no layer is left over; `layers`: number -> to_k_ip's shape.

    OptionError says which two families do not go together.
    """
    wanted = {place.number: place.channels for place in places}
    widths = {number: shape[0] for number, shape in layers.items()}
    if wanted != widths:
        raise OptionError(
            f"an IP-Adapter for another model: {_told(widths)}",
            where,
            _told(wanted),
            "take one that was made for this model's family",
        )


def _told(widths: dict[int, int]) -> str:
    each = [widths[number] for number in sorted(widths)]
    return f"{len(each)} layers, {'/'.join(str(w) for w in dict.fromkeys(each))} wide"
