"""A pipeline written as a folder in diffusers' layout, which diffusers, hosts and this package load back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..core.errors import FileError, OptionError
from ..core.safetensors_file import write_safetensors
from ..standalone.save_text import LAYOUT, save_tokenizer, text_config
from ..standalone.text import TextConfig, TextEncoder
from .component import Component

if TYPE_CHECKING:
    from .base import DiffusionPipeline

LIBRARIES = {"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer"}


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
