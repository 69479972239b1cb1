"""A diffusers-layout folder: which files it needs, and its parts under our networks' names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, open_weights
from ..core.errors import FileError, OptionError
from ..core.parts import Parts, parts_of

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
CONFIGS = ("config.json", "scheduler_config.json", "model_index.json")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json", "tokenizer_config.json")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


def pick_weights(names: Collection[str], variant: str | None = None) -> str | None:
    """Which of a component's files to read: the variant's before the plain one, safetensors before pickles.

    Sharded weights are named by their index. A variant is the part of the name before the ending
    (`model.fp16.safetensors`); without one the plain file, else the only variant there is.
    """
    for spelling in [_spellings(variant)] if variant else []:
        if found := next((name for name in spelling if name in names), None):
            return found
    if found := next((name for name in _spellings(None) if name in names), None):
        return found
    there = variants(names)
    if len(there) == 1 and not variant:
        return pick_weights(names, there[0])
    alone = [name for name in names if name.endswith(WEIGHTS)]
    return alone[0] if len(alone) == 1 else None


def _spellings(variant: str | None) -> list[str]:
    dot = f".{variant}" if variant else ""
    safe = [f"{s}{tail}" for s in STEMS for tail in _tails(".safetensors", dot)]
    return safe + [f"{s}{tail}" for s in STEMS for tail in _tails(".bin", dot)]


def _tails(ending: str, dot: str) -> tuple[str, ...]:
    return f"{dot}{ending}", f"{ending}.index{dot}.json", f"{dot}{ending}.index.json"


def variants(names: Iterable[str]) -> list[str]:
    """The variants among a component's files."""
    patterns = (
        r"\w+\.([\w-]+?)(-\d+-of-\d+)?\.(safetensors|bin)",
        r"\w+\.(?:safetensors|bin)\.index\.([\w-]+)\.json",
    )
    found = {match[1] for name in names for p in patterns if (match := re.fullmatch(p, name))}
    return sorted(found - {"safetensors", "bin"})


def shards(index: Path) -> list[str]:
    """The files an index lists."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict):
        raise FileError("an index of shards without weight_map", where=index)
    return sorted({str(name) for name in listed.values()})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; FileError where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(
            f"not readable as JSON ({error})", where=path, todo="download the folder again"
        ) from error
    if not isinstance(value, dict):
        raise FileError("not a JSON object", where=path)
    return value


class Folder:
    """One folder: a pipeline (`model_index.json`) or a single component (`config.json` and its weights)."""

    def __init__(self, path: Path, variant: str | None = None) -> None:
        self.path, self.variant = path, variant
        self.configs: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.metadata: dict[str, str] = {}
        self.parts = Parts()
        if (path / "model_index.json").is_file():
            self._read_pipeline()
        else:
            self._read_component()

    @property
    def tokenizer(self) -> Path | None:
        """The first text encoder's tokenizer folder, where there is one."""
        folders = [self.path / name for name in ("tokenizer", "tokenizer_2")]
        return next((f for f in folders if any((f / n).is_file() for n in TOKENIZER[:3])), None)

    def _read_pipeline(self) -> None:
        index = read_json(self.path / "model_index.json")
        self._check_variant()
        names = [
            name for name in COMPONENTS if isinstance(index.get(name), list) and index[name][0] is not None
        ]
        for name in names:
            if (self.path / name).is_dir():
                self._add(name, self.path / name)
        if "text_encoder" not in self.configs and "text_encoder_2" in self.configs:
            self.configs["text_encoder"] = self.configs.pop(
                "text_encoder_2"
            )  # the SDXL refiner has only this one
        scheduler = self.path / "scheduler" / "scheduler_config.json"
        if scheduler.is_file():
            self.configs["scheduler"] = read_json(scheduler)

    def _read_component(self) -> None:
        names = [file.name for file in self.path.iterdir() if file.is_file()]
        if pick_weights(names, self.variant) is None:
            raise FileError("a folder without model_index.json", self.path, _EXPECTED, _advice(self.path))
        parts = self._add("", self.path)
        if not parts.names:
            raise FileError("its weights are no UNet, VAE or text encoder", self.path, _EXPECTED)
        self.configs = {name: config for config in self.configs.values() for name in parts.names}

    def _add(self, name: str, folder: Path) -> Parts:
        files = [file.name for file in folder.iterdir() if file.is_file()]
        chosen = pick_weights(files, self.variant)
        if chosen is None:
            there = f"; it has {', '.join(sorted(files)[:5])}" if files else ""
            raise FileError(
                f"no weights in {folder.name}/{there}", self.path, todo="download the folder again"
            )
        if self.variant and self.variant not in chosen.split("."):
            self.notes.append(f"{name}: no {self.variant} variant, took {chosen}")
        checkpoint = open_weights(folder / chosen)
        if (folder / "config.json").is_file():
            self.configs[name] = read_json(folder / "config.json")
        parts = parts_of(checkpoint)
        self._merge(parts, checkpoint)
        return parts

    def _merge(self, parts: Parts, checkpoint: Checkpoint) -> None:
        into = self.parts
        into.unet, into.vae = into.unet or parts.unet, into.vae or parts.vae
        into.ema, into.markers = into.ema or parts.ema, {**into.markers, **parts.markers}
        into.texts += parts.texts
        into.openclip += parts.openclip
        into.ignored |= parts.ignored
        into.unknown += parts.unknown
        self.metadata |= checkpoint.metadata
        self.notes += checkpoint.notes

    def _check_variant(self) -> None:
        """OptionError where no component at all has the variant that was asked for."""
        if not self.variant:
            return
        folders = [self.path / name for name in COMPONENTS if (self.path / name).is_dir()]
        there = {v for folder in folders for v in variants(file.name for file in folder.iterdir())}
        if self.variant not in there:
            known = (
                f"one of {', '.join(sorted(there))}, or none" if there else "none: it has only one version"
            )
            raise OptionError(f"no component has the variant {self.variant!r}", self.path, expected=known)


_EXPECTED = "a diffusers folder, or one with config.json and its weights"


def _advice(folder: Path) -> str:
    """What to give instead of this folder."""
    inner = sorted(f.name for f in folder.iterdir() if f.is_dir() and (f / "model_index.json").is_file())
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(WEIGHTS))
    if inner:
        return f"give the folder {inner[0]}/ inside it, or --subfolder {inner[0]}"
    if files:
        return f"give one of its files: {', '.join(files[:5])}"
    return "check the path"
