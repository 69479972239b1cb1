"""Other components in the place of a model's own, or where it has none (--vae, --text-encoder)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.parts import Tensors
from .hub import Hub
from .source import Source, open_component, text_name


def as_list(text_encoder: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    """One file or several, as the option or the caller spelled them."""
    if text_encoder is None:
        return []
    if isinstance(text_encoder, Path):
        return [text_encoder]
    if isinstance(text_encoder, str):
        return [text_encoder] if Path(text_encoder).exists() else [s.strip() for s in text_encoder.split(",")]
    return list(text_encoder)


def exchange(found: Source, vae: str | Path | None, texts: list[str | Path], hub: Hub) -> list[str]:
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
            config = other.configs.get(text_name(i)) or {}
            _put_text(found, tensors, other.parts.openclip[i], config)
        notes.append(f"text encoder from {path}")
    return notes


def text_width(tensors: Tensors) -> int:
    """How wide a text encoder is."""
    return tensors["text_model.embeddings.token_embedding.weight"].shape[1]


def _put_text(found: Source, tensors: Tensors, openclip: bool, config: dict[str, Any]) -> None:
    """In the place of the encoder of the same width; else of the only one; else as another, narrow ones first."""
    parts, width = found.parts, text_width(tensors)
    widths = [text_width(text) for text in parts.texts]
    if width in widths:
        index = widths.index(width)
        parts.texts[index], parts.openclip[index] = tensors, openclip
    else:
        index = sum(w < width for w in widths)
        parts.texts.insert(index, tensors)
        parts.openclip.insert(index, openclip)
        if "text_encoder" in found.configs and index == 0:
            found.configs["text_encoder_2"] = found.configs["text_encoder"]
    found.configs[text_name(index)] = config
