"""Text encoder tensors in any layout -> transformers' CLIPTextModel names, as views of the same bytes.

OpenCLIP fuses q, k and v into one matrix and multiplies by `text_projection` where transformers stores
the weight of a linear layer, its transpose. transformers 5 writes names without `text_model.`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .entry import Entry
from .keymap import rename, rows

OPENCLIP = rows("""
    token_embedding.weight text_model.embeddings.token_embedding.weight
    positional_embedding   text_model.embeddings.position_embedding.weight
    ln_final               text_model.final_layer_norm
    text_projection.weight text_projection.weight
""")
OPENCLIP_LAYER = rows("""
    ln_1          layer_norm1
    ln_2          layer_norm2
    attn.out_proj self_attn.out_proj
    attn.q_proj   self_attn.q_proj
    attn.k_proj   self_attn.k_proj
    attn.v_proj   self_attn.v_proj
    mlp.c_fc      mlp.fc1
    mlp.c_proj    mlp.fc2
""")
HUGGING_FACE = rows("""
    text_model                  text_model
    text_projection             text_projection
    embeddings                  text_model.embeddings
    encoder                     text_model.encoder
    final_layer_norm            text_model.final_layer_norm
""")


def is_openclip(names: Iterable[str]) -> bool:
    """Whether these names are OpenCLIP's."""
    return any(name.startswith("transformer.resblocks.") for name in names)


def to_transformers(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str]]:
    """(tensors under transformers' names, names that belong to no text encoder)."""
    if is_openclip(entries):
        return _from_openclip(entries)
    return rename(entries, HUGGING_FACE)


def _from_openclip(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str]]:
    plain: dict[str, Entry] = {}
    for name, entry in entries.items():
        if ".attn.in_proj_" in name:
            stem, kind = name.split("in_proj_")
            for part, piece in zip("qkv", entry.split(3), strict=True):
                plain[f"{stem}{part}_proj.{kind}"] = piece
        elif name == "text_projection":
            plain["text_projection.weight"] = entry.transpose()
        else:
            plain[name] = entry
    return rename(plain, OPENCLIP | _layers(plain))


def _layers(names: Iterable[str]) -> dict[str, str]:
    numbers = {name.split(".")[2] for name in names if name.startswith("transformer.resblocks.")}
    return {
        f"transformer.resblocks.{n}.{a}": f"text_model.encoder.layers.{n}.{b}"
        for n in numbers
        for a, b in OPENCLIP_LAYER.items()
    }
