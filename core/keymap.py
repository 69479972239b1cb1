"""diffusers' tensor names <-> the LDM names of single files, for UNet and VAE: rows, expanded by counting.

A table maps module paths; `translate` looks up the longest dotted prefix of a name exactly and answers None
where there is none, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Table = dict[str, str]


def rows(text: str) -> Table:
    """`left right` a line -> {left: right}."""
    return dict(line.split() for line in text.strip().splitlines())


UNET = rows("""
    conv_in                 input_blocks.0.0
    time_embedding.linear_1 time_embed.0
    time_embedding.linear_2 time_embed.2
    add_embedding.linear_1  label_emb.0.0
    add_embedding.linear_2  label_emb.0.2
    conv_norm_out           out.0
    conv_out                out.2
""")
UNET_RESNET = rows("""
    norm1         in_layers.0
    conv1         in_layers.2
    time_emb_proj emb_layers.1
    norm2         out_layers.0
    conv2         out_layers.3
    conv_shortcut skip_connection
""")
VAE = rows("""
    quant_conv            quant_conv
    post_quant_conv       post_quant_conv
    encoder.conv_in       encoder.conv_in
    encoder.conv_norm_out encoder.norm_out
    encoder.conv_out      encoder.conv_out
    decoder.conv_in       decoder.conv_in
    decoder.conv_norm_out decoder.norm_out
    decoder.conv_out      decoder.conv_out
""")
VAE_RESNET = rows("""
    norm1         norm1
    conv1         conv1
    norm2         norm2
    conv2         conv2
    conv_shortcut nin_shortcut
""")
VAE_ATTENTION = rows("""
    group_norm norm
    to_q       q
    to_k       k
    to_v       v
    to_out.0   proj_out
""")
VAE_OLD_ATTENTION = rows("""
    group_norm norm
    query      q
    key        k
    value      v
    proj_attn  proj_out
""")


def _under(inner: Table, left: str, right: str) -> Table:
    return {f"{left}.{a}": f"{right}.{b}" for a, b in inner.items()}


def unet_table(blocks: Sequence[int], attention: Sequence[bool], middle: bool = True) -> Table:
    """diffusers module -> LDM module of a UNet; level i has `blocks[i]` ResNets, with transformers or not."""
    table = dict(UNET)
    n = 1
    for i, count in enumerate(blocks):
        for j in range(count):
            table |= _under(UNET_RESNET, f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n}.0")
            if attention[i]:
                table[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
            n += 1
        table[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
        n += 1
    table |= _under(UNET_RESNET, "mid_block.resnets.0", "middle_block.0")
    if middle:
        table["mid_block.attentions.0"] = "middle_block.1"
    table |= _under(UNET_RESNET, "mid_block.resnets.1", f"middle_block.{1 + middle}")
    n = 0
    for i, level in enumerate(reversed(range(len(blocks)))):
        for j in range(blocks[level] + 1):
            table |= _under(UNET_RESNET, f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n}.0")
            if attention[level]:
                table[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
            n += 1
        upsample = f"output_blocks.{n - 1}.{1 + attention[level]}.conv"
        table[f"up_blocks.{i}.upsamplers.0.conv"] = upsample
    return table


def unet_table_for(names: Iterable[str]) -> Table:
    """The table that fits a set of diffusers UNet names."""
    names = set(names)
    blocks: list[int] = []
    while (found := _count(names, f"down_blocks.{len(blocks)}.resnets.{{}}.conv1.weight")) > 0:
        blocks.append(found)
    attention = [f"down_blocks.{i}.attentions.0.norm.weight" in names for i in range(len(blocks))]
    return unet_table(blocks, attention, "mid_block.attentions.0.norm.weight" in names)


def vae_table(levels: int, blocks: int, attention: Table = VAE_ATTENTION) -> Table:
    """diffusers module -> LDM module of a VAE; the decoder's levels are numbered from opposite ends."""
    table = dict(VAE)
    for side, sampler in (("encoder", "downsample"), ("decoder", "upsample")):
        for name in ("1", "2"):
            here = f"{side}.mid_block.resnets.{int(name) - 1}"
            table |= _under(VAE_RESNET, here, f"{side}.mid.block_{name}")
        table |= _under(attention, f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1")
        way, count = ("down", blocks) if side == "encoder" else ("up", blocks + 1)
        for i in range(levels):
            ldm = f"{side}.{way}.{i if side == 'encoder' else levels - 1 - i}"
            for j in range(count):
                table |= _under(VAE_RESNET, f"{side}.{way}_blocks.{i}.resnets.{j}", f"{ldm}.block.{j}")
            table[f"{side}.{way}_blocks.{i}.{sampler}rs.0.conv"] = f"{ldm}.{sampler}.conv"
    return table


def vae_table_for(names: Iterable[str]) -> Table:
    """The table that fits a set of diffusers VAE names, older attention names included."""
    names = set(names)
    levels = _count(names, "encoder.down_blocks.{}.resnets.0.conv1.weight")
    levels = levels or _count(names, "decoder.up_blocks.{}.resnets.0.conv1.weight")
    blocks = _count(names, "encoder.down_blocks.0.resnets.{}.conv1.weight")
    blocks = blocks or _count(names, "decoder.up_blocks.0.resnets.{}.conv1.weight") - 1
    old = any(".attentions.0.query." in name for name in names)
    return vae_table(levels, blocks, VAE_OLD_ATTENTION if old else VAE_ATTENTION)


def inverse(table: Table) -> Table:
    """LDM module -> diffusers module."""
    return {right: left for left, right in table.items()}


def translate(table: Table, name: str) -> str | None:
    """`name` with its longest dotted prefix that the table knows replaced; None where it knows none."""
    prefix, rest = name, ""
    while prefix not in table:
        prefix, dot, last = prefix.rpartition(".")
        if not dot:
            return None
        rest = f".{last}{rest}"
    return table[prefix] + rest


def rename(tensors: Mapping[str, T], table: Table) -> tuple[dict[str, T], list[str]]:
    """(tensors under their other names, names the table does not know)."""
    renamed: dict[str, T] = {}
    unknown: list[str] = []
    for name, value in tensors.items():
        other = translate(table, name)
        if other is None:
            unknown.append(name)
        else:
            renamed[other] = value
    return renamed, unknown


def _count(names: set[str], pattern: str) -> int:
    """How many of `pattern` with 0, 1, 2, ... are there, without a gap."""
    n = 0
    while pattern.format(n) in names:
        n += 1
    return n
