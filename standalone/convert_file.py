"""The tensors of a model under the names of single files (LDM's, OpenCLIP's for text encoders that have them so)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.entry import Entry
from ..core.family import Identity
from ..core.keymap import inverse, rename
from ..core.safetensors_stream import Planned
from ..core.textmap import OPENCLIP, OPENCLIP_LAYER
from .convert import UNET, Values
from .source import Source

VAE = "first_stage_model."
# family -> of each text encoder, its prefix and whether it is written as OpenCLIP's
TEXTS: Mapping[str, Sequence[tuple[str, bool]]] = {
    "sd1": [("cond_stage_model.transformer.", False)],
    "sd2": [("cond_stage_model.model.", True)],
    "sdxl": [("conditioner.embedders.0.transformer.", False), ("conditioner.embedders.1.model.", True)],
    "sdxl-refiner": [("conditioner.embedders.0.model.", True)],
}


def plan_of(found: Source, identity: Identity, values: Values) -> dict[str, Planned]:
    """Everything the file will hold."""
    parts = found.parts
    plan = {UNET + name: planned for name, planned in values.plan(parts.unet).items()}
    plan |= {VAE + name: planned for name, planned in values.plan(parts.vae).items()}
    for tensors, (prefix, fused) in zip(parts.texts, TEXTS[identity.family.name], strict=True):
        own = openclip(tensors, values) if fused else values.plan(tensors)
        plan |= {prefix + name: planned for name, planned in own.items()}
    return plan | values.plan(parts.markers)


def openclip(tensors: Mapping[str, Entry], values: Values) -> dict[str, Planned]:
    """A text encoder in OpenCLIP's layout: q, k and v in one matrix, the projection transposed."""
    numbers = {name.split(".")[3] for name in tensors if ".encoder.layers." in name}
    layers = {
        f"transformer.resblocks.{n}.{ours}": f"text_model.encoder.layers.{n}.{theirs}"
        for n in numbers
        for ours, theirs in OPENCLIP_LAYER.items()
    }
    named, _ = rename(dict(tensors), inverse(OPENCLIP | layers))
    plan = {name: values.planned(name, entry) for name, entry in named.items() if not _joined(name)}
    if (projection := named.get("text_projection.weight")) is not None:
        plan["text_projection"] = values.planned("text_projection", projection.transpose())
    for name in named:
        if ".attn.q_proj." in name:
            plan[name.replace("q_proj.", "in_proj_")] = _fused(name, named, values)
    return plan


def _joined(name: str) -> bool:
    return name == "text_projection.weight" or any(f".attn.{part}_proj." in name for part in "qkv")


def _fused(name: str, named: Mapping[str, Entry], values: Values) -> Planned:
    names = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
    parts = [values.planned(each, named[each]) for each in names]
    first = parts[0]

    def make() -> Tensor:
        return torch.cat([each.make() for each in parts])

    return Planned((3 * first.shape[0], *first.shape[1:]), first.dtype, make)
