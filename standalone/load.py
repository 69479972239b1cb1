"""A checkpoint file, a diffusers folder or a hub id -> the networks, with what was found out about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.entry import Entry, Pages
from ..core.errors import FileError, MissingPartError
from ..core.family import Family, Identity, identify
from ..core.parts import Tensors, shapes
from .fill import Filler, Progress, size_of
from .hub import Hub
from .model import Model, ModelInfo
from .prediction import Evidence, Prediction, predict
from .source import Source, open_component, open_source, tensors_of
from .text import TextConfig, TextEncoder
from .tokens import Tokenizer
from .unet import UNet, UNetConfig
from .vae import VAE, VAEConfig

_FLUX_LATENT = (0.3611, 0.1159)  # scale and shift of the published 16-channel VAE (Flux's config.json)


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
    found.notes += _replace(found, vae, _list(text_encoder), replace(hub, revision=None))
    identity = _identity(found)
    _require_parts(found, identity.family)
    device, dtype = torch.device(device or "cpu"), dtype or torch.float32
    configs = _configs(found)
    info = _info(found, identity, prediction, shift)
    with Filler(dtype, device, progress, size_of(tensors_of(found.parts))) as filler:
        parts = found.parts
        unet = filler.build(lambda: UNet(configs[0]), parts.unet, "UNet")
        autoencoder = filler.build(lambda: VAE(configs[1]), parts.vae, "VAE", vae_dtype)
        texts = [
            filler.build(lambda c=config: TextEncoder(c), tensors, "text encoder")
            for config, tensors in zip(configs[2], parts.texts, strict=True)
        ]
    scale, moved = _latent_scale(found, identity, info, device)
    tokenizer = Tokenizer.from_folder(found.tokenizer) if found.tokenizer else None
    return Model(unet, autoencoder, texts, info, str(source), dtype, device, scale, moved, tokenizer)


def _list(text_encoder: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    if text_encoder is None:
        return []
    if isinstance(text_encoder, Path):
        return [text_encoder]
    if isinstance(text_encoder, str):
        return [text_encoder] if Path(text_encoder).exists() else [s.strip() for s in text_encoder.split(",")]
    return list(text_encoder)


def _replace(found: Source, vae: str | Path | None, texts: list[str | Path], hub: Hub) -> list[str]:
    """Put the given components in the place of the model's own; the notes say what was exchanged."""
    notes: list[str] = []
    if vae is not None:
        other = open_component(vae, "vae", "--vae", hub)
        found.parts.vae = other.parts.vae
        found.configs["vae"] = other.configs.get("vae", {})
        notes.append(f"VAE from {vae}")
    for path in texts:
        other = open_component(path, "texts", "--text-encoder", hub)
        for i, tensors in enumerate(other.parts.texts):
            config = other.configs.get(_text_name(i)) or {}
            _put_text(found, tensors, other.parts.openclip[i], config)
        notes.append(f"text encoder from {path}")
    return notes


def _text_name(index: int) -> str:
    return "text_encoder" if index == 0 else f"text_encoder_{index + 1}"


def _text_width(tensors: Tensors) -> int:
    return tensors["text_model.embeddings.token_embedding.weight"].shape[1]


def _put_text(found: Source, tensors: Tensors, openclip: bool, config: dict[str, Any]) -> None:
    """In the place of the encoder of the same width; else of the only one; else as another, narrow ones first."""
    parts, width = found.parts, _text_width(tensors)
    widths = [_text_width(text) for text in parts.texts]
    if width in widths:
        index = widths.index(width)
        parts.texts[index], parts.openclip[index] = tensors, openclip
    else:
        index = sum(w < width for w in widths)
        parts.texts.insert(index, tensors)
        parts.openclip.insert(index, openclip)
        if "text_encoder" in found.configs and index == 0:
            found.configs["text_encoder_2"] = found.configs["text_encoder"]
    found.configs[_text_name(index)] = config


def _identity(found: Source) -> Identity:
    if not found.parts.unet:
        there = " and ".join(found.parts.names)
        raise MissingPartError(
            f"no UNet in it, only {there}", found.name, "a whole model", "give it with --model"
        )
    try:
        return identify(shapes(found.parts.unet))
    except FileError as error:
        error.where = error.where or found.name
        raise


def _require_parts(found: Source, family: Family) -> None:
    parts = found.parts
    if not parts.vae:
        raise MissingPartError("the model has no VAE", found.name, todo="give one with --vae FILE")
    if len(parts.texts) < family.texts:
        which = (
            "no text encoder"
            if not parts.texts
            else f"only {len(parts.texts)} of {family.texts} text encoders"
        )
        files = "FILE" if family.texts - len(parts.texts) == 1 else "CLIP-L,BIGG (two files)"
        todo = f"give what is missing with --text-encoder {files}"
        raise MissingPartError(f"the model has {which}", found.name, todo=todo)
    if len(parts.texts) > family.texts:
        widths = ", ".join(str(_text_width(text)) for text in parts.texts)
        what = f"{len(parts.texts)} text encoders ({widths} wide)"
        raise FileError(what, found.name, f"{family.texts} for {family.label}", "leave --text-encoder out")


def _configs(found: Source) -> tuple[UNetConfig, VAEConfig, list[TextConfig]]:
    """The sizes of all networks, from shapes; heads and activations, which leave no shape, from a folder's configs."""
    parts, said = found.parts, found.configs
    try:
        unet = _with_heads(UNetConfig.from_shapes(shapes(parts.unet)), said.get("unet", {}))
        vae = VAEConfig.from_shapes(shapes(parts.vae))
        texts = [
            _text_config(tensors, parts.openclip[i], said.get(_text_name(i)) or {})
            for i, tensors in enumerate(parts.texts)
        ]
    except FileError as error:
        error.where = error.where or found.name
        raise
    _check_widths(found, unet, vae, texts)
    return unet, vae, texts


def _with_heads(config: UNetConfig, said: dict[str, Any]) -> UNetConfig:
    """diffusers' `attention_head_dim` is the number of heads (its own misnomer), one for all levels or a list."""
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


def _text_config(tensors: Tensors, openclip: bool, said: dict[str, Any]) -> TextConfig:
    """Depth tells the activation where nothing says it: 12 layers are OpenAI's CLIP-L, deeper ones OpenCLIP's."""
    found = TextConfig.from_shapes(shapes(tensors))
    guess = "gelu" if openclip or found.layers >= 20 else "quick_gelu"
    act = said.get("hidden_act", guess)
    if act not in ("gelu", "quick_gelu"):
        raise FileError(f"text encoder with activation {act!r}", expected="gelu or quick_gelu")
    return replace(found, act=act, heads=said.get("num_attention_heads", found.heads))


def _check_widths(found: Source, unet: UNetConfig, vae: VAEConfig, texts: list[TextConfig]) -> None:
    width = sum(text.width for text in texts)
    if width != unet.context_dim:
        what = f"the text encoder is {width} wide and the UNet reads {unet.context_dim}"
        raise FileError(what, found.name, "parts of one family", "give the matching one with --text-encoder")
    if vae.z_channels != unet.out_channels:
        what = f"the VAE has {vae.z_channels} latent channels and the UNet {unet.out_channels}"
        raise FileError(what, found.name, "parts of one family", "give the matching one with --vae")


def _info(found: Source, identity: Identity, prediction: str | None, shift: float | None) -> ModelInfo:
    family, parts = identity.family, found.parts
    evidence = Evidence(
        family.name,
        identity.task,
        found.name,
        parts.markers,
        found.metadata,
        found.configs.get("scheduler", {}),
        parts.unet,
        identity.latent_channels,
    )
    guess = predict(evidence, prediction, shift)
    reasons = [*identity.reasons, *guess.reasons, *found.notes]
    if parts.unknown:
        few = ", ".join(parts.unknown[:3])
        reasons.append(f"{len(parts.unknown)} unknown tensors were not used, such as {few}")
    return ModelInfo(
        family=family.name,
        task=identity.task,
        prediction=guess.kind,
        zero_snr=guess.zero_snr,
        shift=guess.shift,
        sigma_min=guess.sigma_min,
        sigma_max=guess.sigma_max,
        latent_channels=identity.latent_channels,
        native_size=_native_size(found, family, guess),
        reasons=reasons,
    )


def _native_size(found: Source, family: Family, guess: Prediction) -> int:
    """Pixels on a side, from metadata (modelspec.resolution) or the UNet's config, else the family's own."""
    said = re.match(r"(\d+)x(\d+)", found.metadata.get("modelspec.resolution", ""))
    if said:
        return max(int(said[1]), int(said[2]))
    latent = found.configs.get("unet", {}).get("sample_size")
    if isinstance(latent, int):
        levels = sum(name.endswith(("downsample.conv.weight",)) for name in found.parts.vae)
        return latent * 2**levels
    return 768 if family.name == "sd2" and guess.kind == "v" else family.size


def _latent_scale(
    found: Source, identity: Identity, info: ModelInfo, device: torch.device
) -> tuple[float | Tensor, float | Tensor]:
    """(scale, shift): the UNet sees (VAE latent - shift) * scale. From the VAE's config, marks, or the family."""
    config, marks = found.configs.get("vae", {}), found.parts.markers
    scale = config.get("scaling_factor")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return (float(scale or 1.0)) / _column(std, device), _column(mean, device)
    if "edm_mean" in marks and "edm_std" in marks:
        return 0.5 / _column(marks["edm_std"], device), _column(marks["edm_mean"], device)
    if scale is not None:
        return float(scale), float(config.get("shift_factor") or 0.0)
    if identity.latent_channels == 4:
        return identity.family.scale_factor, 0.0
    known = _FLUX_LATENT if identity.latent_channels == 16 else (1.0, 0.0)
    info.reasons.append(
        f"latent scale {known[0]:g}, shift {known[1]:g}: assumed for {identity.latent_channels} channels"
    )
    return known


def _column(values: Sequence[float] | Entry, device: torch.device) -> Tensor:
    """Per-channel numbers as [1, channels, 1, 1]."""
    found = Pages().tensor(values) if isinstance(values, Entry) else torch.tensor(values)
    return found.float().reshape(1, -1, 1, 1).clone().to(device)
