"""Other spellings of control files' tensors -> the names of our networks: rows, expanded by counting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..core.keymap import Table, rename, unet_table_for
from ..core.shapes import count
from ..core.temporal import parts_table

T = TypeVar("T")
UNION = ("task_embedding", "transformer_layes", "spatial_ch_projs", "control_add_embedding")


def control_names(tensors: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """A ControlNet's tensors under LDM names, whichever of LDM's and diffusers' they had; and unknown names."""
    if any(name.startswith("input_blocks.") for name in tensors):
        known = re.compile(
            r"(input_blocks|middle_block|time_embed|label_emb|input_hint_block|zero_convs)[._].*"
        )
        found = {name: value for name, value in tensors.items() if known.match(name)}
        return found, [name for name in tensors if name not in found]
    return rename(tensors, _control_table(tensors))


def _control_table(names: Iterable[str]) -> Table:
    names = list(names)
    table = unet_table_for(names) | {name: name for name in UNION}
    hints = count(dict.fromkeys(names, ()), "controlnet_cond_embedding.blocks.{}.weight")
    zeros = count(dict.fromkeys(names, ()), "controlnet_down_blocks.{}.weight")
    table |= control_table(hints, zeros)
    return table | _motion_table(names, table)


def control_table(blocks: int, zeros: int) -> Table:
    """diffusers module -> LDM module of what a ControlNet has besides the encoder: hint blocks and outputs."""
    table: Table = {}
    for i in range(blocks):
        table[f"controlnet_cond_embedding.blocks.{i}"] = f"input_hint_block.{2 * (i + 1)}"
    table |= {
        "controlnet_cond_embedding": "input_hint_block.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * (blocks + 1)}",
        "controlnet_mid_block": "middle_block_out.0",
    }
    return table | {f"controlnet_down_blocks.{n}": f"zero_convs.{n}.0" for n in range(zeros)}


def _motion_table(names: list[str], table: Table) -> Table:
    """Motion modules go by the input block they follow, in AnimateDiff's and in diffusers' spelling."""
    found: Table = {}
    for name in names:
        if module := re.match(r"(down_blocks\.\d+)\.motion_modules\.(\d+)(\.temporal_transformer)?\.", name):
            block, number = module[1], module[2]
            n = table[f"{block}.resnets.{number}.norm1"].split(".")[1]
            found |= parts_table(module[0].removesuffix("."), f"motion_modules.{n}")
    return found


def t2i_names(tensors: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """A T2I-Adapter's tensors under TencentARC's names; and unknown names."""
    if not any(".resnets." in name for name in tensors):
        known = re.compile(r"(conv_in|body\.\d+)\..*")
        return {name: value for name, value in tensors.items() if known.match(name)}, [
            name for name in tensors if not known.match(name)
        ]
    light = "body.0.out_conv.weight" in tensors
    names = dict.fromkeys(tensors, ())
    table = {"conv_in": "conv_in"}
    for level in range(count(names, "body.{}.resnets.0.block1.weight")):
        here = f"body.{level}"
        blocks = count(names, f"{here}.resnets.{{}}.block1.weight")
        table[f"{here}.in_conv"] = f"{here}.in_conv" if light else f"body.{level * blocks}.in_conv"
        table[f"{here}.out_conv"] = f"{here}.out_conv"
        for i in range(blocks):
            inner = f"{here}.body.{i}" if light else f"body.{level * blocks + i}"
            table[f"{here}.resnets.{i}"] = inner
    return rename(tensors, table)
