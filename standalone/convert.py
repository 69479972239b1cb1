"""A model written again as one file or as a folder in diffusers' layout, in another dtype: tensor by tensor.

One file becomes a folder and a folder one file by the same tables that loading goes by; a file that becomes a file, or
a folder a folder, keeps its names and everything in it that is no weight.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..core.checkpoint import open_weights
from ..core.entry import Entry, Pages
from ..core.errors import FileError, MissingPartError, OptionError
from ..core.family import Identity, identify
from ..core.fill import is_finite, short_name
from ..core.parts import shapes, unflatten
from ..core.safetensors_stream import Planned, stream_safetensors
from . import output
from .folder import COMPONENTS, WEIGHTS, pick_weights
from .hub import Hub
from .source import Source, locate, open_source

SUFFIX = ".safetensors"
UNET, EMA = "model.diffusion_model.", "model_ema."
Entries = Mapping[str, Entry]


@dataclass
class Values:
    """Tensors of a file as they are written: in `dtype`, or each in its own."""

    dtype: torch.dtype | None
    pages: Pages = field(default_factory=Pages)

    def plan(self, entries: Entries) -> dict[str, Planned]:
        """What a file of these tensors holds."""
        return {name: self.planned(name, entry) for name, entry in entries.items()}

    def planned(self, name: str, entry: Entry) -> Planned:
        """One tensor."""
        dtype = self.of(entry)
        return Planned(entry.shape, dtype, partial(self._value, name, entry, dtype))

    def of(self, entry: Entry) -> torch.dtype:
        """The dtype that a tensor is written in; integers stay, and fp8 with a scale is bf16 where nothing is said."""
        if not entry.dtype.is_floating_point:
            return entry.dtype
        return self.dtype or (entry.dtype if entry.scale is None else torch.bfloat16)

    def _value(self, name: str, entry: Entry, dtype: torch.dtype) -> Tensor:
        value = self.pages.tensor(entry)
        if entry.scale is not None:
            scale = self.pages.tensor(entry.scale).float()
            value = value.float() * scale.reshape(scale.shape + (1,) * (value.ndim - scale.ndim))
        made = value.to(dtype)
        if made.is_floating_point() and not is_finite(made):
            what = f"tensor {name!r} holds NaN or values too large for {short_name(dtype)}"
            raise FileError(what, entry.file, todo="choose bf16 or fp32, or another copy of the file")
        return made.contiguous()


def convert(
    source: str | Path,
    out: str | Path,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    as_variant: str | None = None,
    subfolder: str | None = None,
    hub: Hub | None = None,
) -> Path:
    """Write the model at `source` (a file, folder or hub id) to `out`: one file where that ends in .safetensors.

    `variant`: ema or non_ema of a file, non_ema, fp16 and the like of a folder; `as_variant` goes into the names of a
    folder's weights. FileError, MissingPartError, OptionError; nothing is left where it fails.
    """
    path = locate(source, subfolder, variant, hub or Hub())
    target = Path(out).expanduser()
    whole = target.suffix == SUFFIX
    _check(path, target, whole, as_variant)
    values = Values(dtype)
    found = open_source(path, None, variant)
    if whole and not path.is_dir():
        stream_safetensors(target, values.plan(_same(path, variant, found)), dict(found.metadata))
    elif whole:
        from .convert_file import plan_of

        stream_safetensors(target, plan_of(found, _identity(found), values), _said(found))
    elif path.is_dir():
        _published(target, lambda into: _again(path, into, variant, as_variant, values))
    else:
        from .convert_folder import write_folder

        identity = _identity(found)
        _published(target, lambda into: write_folder(found, identity, into, values, as_variant))
    return target


def _check(path: Path, target: Path, whole: bool, as_variant: str | None) -> None:
    if target.exists():
        raise OptionError(f"{str(target)!r} is there already", "--out", todo="choose another name")
    if not whole and target.suffix in WEIGHTS:
        raise OptionError(f"{str(target)!r}", "--out", f"a name that ends in {SUFFIX}, or a folder")
    if whole and as_variant:
        raise OptionError("a variant for one file", "--as-variant", todo="leave it out")
    output.check_folder(target.parent)


def _identity(found: Source) -> Identity:
    """What the model is. MissingPartError where it is not whole: neither layout can say what it lacks."""
    identity = identify(shapes(found.parts.unet)) if found.parts.unet else None
    missing = [name for name in ("unet", "vae") if not getattr(found.parts, name)]
    if identity is None or missing or len(found.parts.texts) != identity.family.texts:
        there = ", ".join(found.parts.names) or "nothing"
        raise MissingPartError(
            "not a whole model", found.name, f"UNet, VAE and text encoders, not only {there}"
        )
    return identity


def _same(path: Path, variant: str | None, found: Source) -> dict[str, Entry]:
    """A file's own names; where one of two sets of UNet weights is chosen, only that."""
    entries = dict(open_weights(path).entries)
    if variant is None:
        return entries
    kept = {name: entry for name, entry in entries.items() if not name.startswith(EMA)}
    if variant == "ema":
        averages = {unflatten(name): entry for name, entry in entries.items() if name.startswith(EMA)}
        kept |= {UNET + name: entry for name, entry in averages.items() if name in found.parts.unet}
    return kept


def _said(found: Source) -> dict[str, str]:
    """What one file has to say that a folder says in its scheduler's config."""
    kind = str(found.configs.get("scheduler", {}).get("prediction_type", ""))
    return {"format": "pt", **({"modelspec.prediction_type": kind} if kind else {})}


def _published(target: Path, write: Callable[[Path], None]) -> None:
    """A folder written beside its place and put there in one step."""
    partial_ = target.with_name(target.name + ".partial")
    shutil.rmtree(partial_, ignore_errors=True)
    try:
        partial_.mkdir()
        write(partial_)
        os.replace(partial_, target)
    except (OSError, shutil.Error) as error:
        raise FileError(f"cannot write: {error}", target, todo="choose another place") from None
    finally:
        shutil.rmtree(partial_, ignore_errors=True)


def _again(path: Path, into: Path, variant: str | None, as_variant: str | None, values: Values) -> None:
    """A folder with one set of weights a component, under their own names; everything else is copied."""
    pipeline = (path / "model_index.json").is_file()
    names = COMPONENTS if pipeline else ("",)

    def weights(folder: str, files: list[str]) -> list[str]:
        own = Path(folder).name in COMPONENTS if pipeline else Path(folder) == path
        return [f for f in files if f.endswith(WEIGHTS) or ".index." in f] if own else []

    shutil.copytree(path, into, ignore=weights, dirs_exist_ok=True)
    for name in names:
        folder = path / name
        files = [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
        if chosen := pick_weights(files, variant):
            checkpoint = open_weights(folder / chosen)
            written = into / name / weights_name(chosen.startswith("model") or "text" in name, as_variant)
            stream_safetensors(written, values.plan(checkpoint.entries), {"format": "pt"})


def weights_name(text: bool, variant: str | None) -> str:
    """The file name of a component's weights."""
    stem = "model" if text else "diffusion_pytorch_model"
    return f"{stem}.{variant}{SUFFIX}" if variant else f"{stem}{SUFFIX}"
