"""A pipeline written as a folder in diffusers' layout, which diffusers, hosts and this package load back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..core.errors import FileError, OptionError
from ..core.safetensors_file import write_safetensors
from ..standalone.model import Family
from ..standalone.text import TextConfig, TextEncoder
from ..standalone.textrules import RULES
from ..standalone.tokens import END, START, VOCAB, Tokenizer
from .component import Component

if TYPE_CHECKING:
    from .base import DiffusionPipeline

LIBRARIES = {"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer"}
LENGTH = 77
LAYOUT = "0.30.0"  # of diffusers, whose inpainting class asks model_index.json for a version


def save_pipeline(
    pipe: DiffusionPipeline, folder: str | os.PathLike[str], variant: str | None = None
) -> None:
    """Each component in its folder, then model_index.json: a folder without it was not finished.

    FileError where it cannot be written, OptionError for a component nobody can save.
    """
    target = Path(folder)
    index: dict[str, Any] = {
        "_class_name": type(pipe).__name__,
        "_diffusers_version": LAYOUT,
        **pipe.settings,
    }
    writers = {name: _writer(pipe, name, part, variant) for name, part in pipe.components.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, (kind, write) in writers.items():
            index[name] = kind
            if write is not None:
                write(target / name)
        partial = target / "model_index.json.partial"
        partial.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, target / "model_index.json")
    except (OSError, shutil.Error) as error:
        raise FileError(f"cannot write: {error}", target, todo="choose another place") from None


Write = Callable[[Path], Any]


def _writer(
    pipe: DiffusionPipeline, name: str, part: Any, variant: str | None
) -> tuple[list[str | None], Write | None]:
    """(what model_index.json says of a component, how it is written)."""
    texts = [text for text in ("text_encoder", "text_encoder_2") if pipe.components.get(text) is not None]
    if name in LIBRARIES:
        number = 1 if name.endswith("2") else 0
        encoder = f"text_encoder{'_2' if number else ''}"
        if encoder not in texts:
            return [None, None], None
        model: Any = pipe.model  # type: ignore[attr-defined]
        sizes = [text.config for text in model.texts]
        return ["transformers", LIBRARIES[name]], lambda folder: save_tokenizer(
            part, sizes, model.info.family, texts.index(encoder), folder
        )
    if part is None:
        return [None, None], None
    if isinstance(part, Component):
        return ["diffusers", type(part).__name__], lambda folder: part.save_pretrained(
            folder, variant=variant
        )
    if isinstance(part, TextEncoder):
        kind = "CLIPTextModelWithProjection" if part.config.projection else "CLIPTextModel"
        return ["transformers", kind], lambda folder: _save_text(part, kind, folder, variant)
    if hasattr(part, "save_pretrained"):
        home = type(part).__module__.split(".")[0]
        library = "transformers" if home == "transformers" else "diffusers"
        return [library, type(part).__name__], part.save_pretrained
    raise OptionError(f"component {name} of type {type(part).__name__} cannot be saved", type(pipe).__name__)


def _save_text(text: nn.Module, kind: str, folder: Path, variant: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config: TextConfig = text.config  # type: ignore[assignment]
    (folder / "config.json").write_text(json.dumps(text_config(config, kind), indent=2), encoding="utf-8")
    name = f"model.{variant}.safetensors" if variant else "model.safetensors"
    write_safetensors(folder / name, text.state_dict(), {"format": "pt"})


def text_config(c: TextConfig, kind: str) -> dict[str, Any]:
    """A text encoder's config.json."""
    return {
        "architectures": [kind],
        "model_type": "clip_text_model",
        "vocab_size": c.vocab,
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.intermediate,
        "max_position_embeddings": c.max_length,
        "hidden_act": c.act,
        "projection_dim": c.projection or 512,
        # what the published folders say: the pooled vector is taken at the largest id, which is the end's
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def save_tokenizer(
    tokenizer: Tokenizer | None, texts: Sequence[TextConfig], family: Family, which: int, folder: Path
) -> None:
    """vocab.json, merges.txt and the special tokens of encoder `which`; CLIP's own where the model came without."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer or Tokenizer.clip(min(min(text.vocab for text in texts), VOCAB))
    words.save(folder)
    pad = words.pad if words.pad is not None and len(texts) == 1 else RULES[family].pads[which]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": words.word(pad)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
