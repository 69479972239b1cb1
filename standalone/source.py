"""Where a model comes from (one file, a folder, a hub id), opened to its parts without reading a tensor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, open_weights
from ..core.errors import FileError, OptionError
from ..core.kinds import adapter_kind, foreign_kind, other_kind
from ..core.parts import Parts, Tensors, parts_of
from .bundled import ASSETS
from .folder import Folder
from .hub import Hub, is_hub_id

BUNDLED = ASSETS / "scenes.safetensors"


@dataclass
class Source:
    """A model's parts, and everything its files say of themselves."""

    name: str
    parts: Parts
    metadata: dict[str, str] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokenizer: Path | None = None
    notes: list[str] = field(default_factory=list)


def open_source(
    source: str | Path, subfolder: str | None = None, variant: str | None = None, hub: Hub | None = None
) -> Source:
    """Open a file, a diffusers folder or a hub id. FileError says what is there where it is no model or part of one.

    `variant` is `ema` or `non_ema` for a single file, and part of the file names (fp16, non_ema) in a folder.
    """
    path = locate(source, subfolder, variant, hub or Hub())
    if path.is_dir():
        folder = Folder(path, variant)
        return Source(
            str(source), folder.parts, folder.metadata, folder.configs, folder.tokenizer, folder.notes
        )
    checkpoint = open_weights(path)
    found = Source(str(path), parts_of(checkpoint), checkpoint.metadata, notes=list(checkpoint.notes))
    _refuse_strangers(checkpoint, found.parts)
    found.notes += _choose_average(found.parts, variant, path)
    return found


def locate(source: str | Path, subfolder: str | None, variant: str | None, hub: Hub) -> Path:
    """The local file or folder that `source` means, fetched from the hub where it is a hub id."""
    if source == "bundled":
        return BUNDLED
    path = Path(source).expanduser()
    if path.exists():
        inner = path / subfolder if subfolder else path
        if subfolder and not inner.is_dir():
            raise OptionError(f"there is no folder {subfolder!r}", path, "a folder inside it (--subfolder)")
        return inner
    if isinstance(source, str) and is_hub_id(source):
        return hub.fetch(source, subfolder, variant)
    raise FileError("no such file or folder", source, "a path or a hub id (owner/name)", "check the spelling")


def _refuse_strangers(checkpoint: Checkpoint, parts: Parts) -> None:
    """An adapter or another family's model is named, so that nobody has to guess from missing tensors."""
    shapes = checkpoint.shapes
    kind = adapter_kind(shapes)
    if kind:
        raise FileError(
            f"this is {kind.label}", checkpoint.source, _EXPECTED, "it goes with a model, not in its place"
        )
    other = foreign_kind(shapes) if parts.names else other_kind(shapes)
    if other or not parts.names:
        what = f"this is {other.label}" if other else f"unknown tensors, such as {next(iter(shapes))!r}"
        raise FileError(what, checkpoint.source, _EXPECTED)


_EXPECTED = "a Stable Diffusion 1.x, 2.x or XL model or a part of one"


def _choose_average(parts: Parts, variant: str | None, path: Path) -> list[str]:
    """Exchange the UNet for its training average where asked for, or where nothing else is there."""
    if variant not in (None, "ema", "non_ema"):
        raise OptionError(
            f"variant {variant!r} chooses among a folder's files", path, "ema or non_ema for one file"
        )
    if not parts.ema:
        if variant == "ema":
            raise OptionError("this file has no averaged (EMA) weights", path, todo="leave --variant out")
        return []
    if variant == "non_ema" and not parts.unet:
        raise OptionError("this file has only averaged (EMA) weights", path, todo="leave --variant out")
    averaged = variant == "ema" or not parts.unet
    if averaged:
        parts.unet = parts.ema
    which = "averaged (EMA)" if averaged else "plain (non-EMA)"
    return [f"the file holds averaged weights too; using the {which} ones"] if variant is None else []


def open_component(
    source: str | Path, part: str, option: str, hub: Hub, subfolder: str | None = None
) -> Source:
    """A file, folder or hub id that must hold `part` ("vae" or "texts"), as given to `option`.

    A whole pipeline serves too: its part is taken.
    """
    found = open_source(source, subfolder, None, replace(hub, components=_FOLDERS[part]))
    if not getattr(found.parts, part):
        there = ", ".join(found.parts.names) or "nothing known"
        raise FileError(f"{option}: no {_NAMES[part]} in it (it holds {there})", source)
    return found


_NAMES = {"vae": "VAE", "texts": "text encoder"}
_FOLDERS = {"vae": ("vae",), "texts": ("text_encoder", "text_encoder_2")}


def text_name(index: int) -> str:
    """The folder of the text encoder with this number."""
    return "text_encoder" if index == 0 else f"text_encoder_{index + 1}"


def tensors_of(parts: Parts) -> list[Tensors]:
    """The parts that a model is made of."""
    return [parts.unet, parts.vae, *parts.texts]
