"""The sizes of a model's networks: from shapes, and from a folder's configs what leaves no trace in shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..core.errors import FileError
from ..core.parts import Tensors, shapes
from ..core.unet_config import with_heads
from .source import Source, text_name
from .text import TextConfig
from .unet import UNetConfig
from .vae import VAEConfig


def network_sizes(found: Source) -> tuple[UNetConfig, VAEConfig, list[TextConfig]]:
    """The sizes of all networks, from shapes; heads and activations, which leave no shape, from a folder's configs."""
    parts, said = found.parts, found.configs
    try:
        unet = with_heads(UNetConfig.from_shapes(shapes(parts.unet)), said.get("unet", {}))
        vae = VAEConfig.from_shapes(shapes(parts.vae))
        texts = [
            _text_config(tensors, parts.openclip[i], said.get(text_name(i)) or {})
            for i, tensors in enumerate(parts.texts)
        ]
    except FileError as error:
        error.where = error.where or found.name
        raise
    _check_widths(found, unet, vae, texts)
    return unet, vae, texts


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
