"""A single file's model as a folder in diffusers' layout: components, their configs, the tokenizer, the scheduler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..core.entry import Entry
from ..core.family import Identity
from ..core.keymap import inverse, rename, unet_table, vae_table
from ..core.parts import Tensors
from ..core.safetensors_stream import stream_safetensors
from ..core.unet_config import UNetConfig
from .configs import FLAT, unet_config, vae_config
from .convert import Values, weights_name
from .knowledge import latent_scale, model_info
from .save_text import LAYOUT, save_tokenizer, text_config
from .single_file import scheduler_of
from .sizes import network_sizes
from .source import Source
from .vae import VAEConfig

CLASSES = {
    ("sd", "base"): "StableDiffusionPipeline",
    ("sd", "inpaint"): "StableDiffusionInpaintPipeline",
    ("sd", "depth"): "StableDiffusionDepth2ImgPipeline",
    ("sdxl", "base"): "StableDiffusionXLPipeline",
    ("sdxl", "inpaint"): "StableDiffusionXLInpaintPipeline",
    ("sdxl-refiner", "base"): "StableDiffusionXLImg2ImgPipeline",
}
# components that a class takes and a single file does not hold
ABSENT = {
    "sd": ("safety_checker", "feature_extractor"),
    "depth": ("depth_estimator", "feature_extractor"),
    "sdxl-refiner": ("text_encoder", "tokenizer"),
}


def write_folder(
    found: Source, identity: Identity, into: Path, values: Values, variant: str | None = None
) -> None:
    """The components, then model_index.json. FileError, OptionError."""
    info = model_info(found, identity, None, None)
    scale, shift = latent_scale(found, identity, info, torch.device("cpu"))
    unet, vae, texts = network_sizes(found)
    index: dict[str, Any] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", type(scheduler := scheduler_of(info)).__name__],
    }
    configs = {
        "unet": unet_config(unet, info.native_size // 2 ** (len(vae.ch_mult) - 1)),
        "vae": vae_config(vae, scale, shift),
    }
    tensors = {"unet": _unet(found.parts.unet, unet), "vae": _vae(found.parts.vae, vae)}
    first = 2 if identity.family.name == "sdxl-refiner" else 1
    for number, sizes in enumerate(texts):
        ending = "_2" if number + first == 2 else ""
        kind = "CLIPTextModelWithProjection" if sizes.projection else "CLIPTextModel"
        index |= {
            f"text_encoder{ending}": ["transformers", kind],
            f"tokenizer{ending}": ["transformers", "CLIPTokenizer"],
        }
        configs[f"text_encoder{ending}"] = text_config(sizes, kind)
        tensors[f"text_encoder{ending}"] = found.parts.texts[number]
        save_tokenizer(None, texts, identity.family.name, number, into / f"tokenizer{ending}")
    for name, own in tensors.items():
        _component(into / name, index[name][1], configs[name], own, values, variant)
    scheduler.save_pretrained(into / "scheduler")
    _write(into / "model_index.json", _index(identity, index))


def _component(
    folder: Path, kind: str, config: Mapping[str, Any], tensors: Tensors, values: Values, variant: str | None
) -> None:
    folder.mkdir(parents=True)
    text = folder.name.startswith("text")
    _write(folder / "config.json", dict(config) if text else {"_class_name": kind, **config})
    stream_safetensors(folder / weights_name(text, variant), values.plan(tensors), {"format": "pt"})


def _unet(tensors: Tensors, c: UNetConfig) -> Tensors:
    attention = [bool(depth) for depth in c.transformer_depth]
    table = unet_table(c.num_res_blocks, attention, bool(c.transformer_depth_middle))
    return rename(tensors, inverse(table))[0]


def _vae(tensors: Tensors, c: VAEConfig) -> Tensors:
    """diffusers keeps the attention's 1x1 convolutions as matrices."""
    named = rename(tensors, inverse(vae_table(len(c.ch_mult), c.num_res_blocks)))[0]
    return {name: _matrix(e) if name.endswith(FLAT) else e for name, e in named.items()}


def _matrix(entry: Entry) -> Entry:
    return entry.reshape(entry.shape[:2])


def _index(identity: Identity, parts: Mapping[str, Any]) -> dict[str, Any]:
    family = identity.family.name
    kind = "sd" if family in ("sd1", "sd2") else family
    absent = ABSENT.get("depth" if identity.task == "depth" else kind, ())
    zeros = {"force_zeros_for_empty_prompt": family == "sdxl"} if kind != "sd" else {}
    score = {"requires_aesthetics_score": True} if kind == "sdxl-refiner" else {}
    name = {"_class_name": CLASSES[kind, identity.task], "_diffusers_version": LAYOUT}
    return {**name, **zeros, **score, **{part: [None, None] for part in absent}, **parts}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
