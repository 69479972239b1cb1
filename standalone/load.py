"""A checkpoint file, a diffusers folder or a hub id -> the networks, with what was found out about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..core.errors import FileError, MissingPartError
from ..core.family import Family, Identity, identify
from ..core.fill import Filler, Progress, size_of
from ..core.parts import shapes
from .exchange import as_list, exchange, text_width
from .hub import Hub
from .knowledge import latent_scale, model_info
from .model import Model
from .sizes import network_sizes
from .source import Source, open_source, tensors_of
from .text import TextEncoder
from .tokens import Tokenizer
from .unet import UNet
from .vae import VAE


def load_model(
    source: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    vae: str | Path | None = None,
    text_encoder: str | Path | Sequence[str | Path] | None = None,
    prediction: str | None = None,
    shift: float | None = None,
    variant: str | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
    vae_dtype: torch.dtype | None = None,
) -> Model:
    """Load a model. Sizes come from shapes; nothing is copied that can be mapped; a file never asks the network.

    `source` is a .safetensors, .ckpt, .pt or .bin file, a diffusers folder, a hub id (owner/name) or "bundled".
    `vae` and `text_encoder` (one, or one for each of SDXL's two, in a list or separated by commas) replace a part, or
    supply one the file lacks. `prediction` (eps, v, x0, flow, edm) and `shift` override what the file says.
    `variant`: ema or non_ema of a single file, fp16 and the like of a folder. `progress(done, total)` is told bytes.

    Raises FileError (no such, damaged, another family, NaN), MissingPartError (with the option that supplies the
    part) and OptionError.
    """
    hub = Hub(revision, token, offline)
    found = open_source(source, subfolder, variant, hub)
    found.notes += exchange(found, vae, as_list(text_encoder), replace(hub, revision=None))
    identity = _identity(found)
    _require_parts(found, identity.family)
    device, dtype = torch.device(device or "cpu"), dtype or torch.float32
    configs = network_sizes(found)
    info = model_info(found, identity, prediction, shift)
    with Filler(dtype, device, progress, size_of(tensors_of(found.parts))) as filler:
        parts = found.parts
        unet = filler.build(lambda: UNet(configs[0]), parts.unet, "UNet")
        autoencoder = filler.build(lambda: VAE(configs[1]), parts.vae, "VAE", vae_dtype)
        texts = [
            filler.build(lambda c=config: TextEncoder(c), tensors, "text encoder")
            for config, tensors in zip(configs[2], parts.texts, strict=True)
        ]
    scale, moved = latent_scale(found, identity, info, device)
    tokenizer = Tokenizer.from_folder(found.tokenizer) if found.tokenizer else None
    return Model(unet, autoencoder, texts, info, str(source), dtype, device, scale, moved, tokenizer)


def _identity(found: Source) -> Identity:
    if not found.parts.unet:
        there = " and ".join(found.parts.names)
        todo = "give the model with --model, this with --vae or --text-encoder"
        raise MissingPartError(f"no UNet in it, only {there}", found.name, "a whole model", todo)
    try:
        return identify(shapes(found.parts.unet))
    except FileError as error:
        error.where = error.where or found.name
        raise


def _require_parts(found: Source, family: Family) -> None:
    parts = found.parts
    if any(name.endswith("cond_proj.weight") for name in parts.unknown):
        what = "the UNet takes an embedding of the guidance, as whole LCM models do"
        raise FileError(what, found.name, "an ordinary UNet", "use the ordinary model with an LCM LoRA")
    if not parts.vae:
        raise MissingPartError("the model has no VAE", found.name, todo="give one with --vae FILE")
    if len(parts.texts) < family.texts:
        some = f"only {len(parts.texts)} of {family.texts} text encoders"
        which = some if parts.texts else "no text encoder"
        files = "FILE" if family.texts - len(parts.texts) == 1 else "CLIP-L,BIGG (two files)"
        todo = f"give what is missing with --text-encoder {files}"
        raise MissingPartError(f"the model has {which}", found.name, todo=todo)
    if len(parts.texts) > family.texts:
        widths = ", ".join(str(text_width(text)) for text in parts.texts)
        what = f"{len(parts.texts)} text encoders ({widths} wide)"
        raise FileError(what, found.name, f"{family.texts} for {family.label}", "leave --text-encoder out")
