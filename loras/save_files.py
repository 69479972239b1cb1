"""Adapter files written, one file or for PEFT a folder with its configuration; and read again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from ..core.errors import FileError
from ..core.safetensors_file import write_safetensors
from ..core.safetensors_stream import Planned, stream_safetensors
from .full import Later
from .lora_file import LoraFile, Part
from .peft_config import HEADER
from .read import EMBEDDING, read_lora
from .save import NAMINGS, Placed, naming_for, tensors_of
from .save_config import config_of
from .targets import NETWORKS, Targets

MODEL, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_STALE = ("sshs_", "modelspec.hash", "format", HEADER)
Embeddings = Mapping[str, Mapping[str, Tensor]]


def save_lora(
    path: Path,
    parts: Sequence[Placed],
    targets: Targets,
    naming: str,
    metadata: Mapping[str, str] | None = None,
    embeddings: Embeddings | None = None,
) -> list[Path]:
    """Write parts under a naming (a row of `NAMINGS`); the files written. FileError, with nothing written, for
    what the naming cannot hold.
    """
    own = {key: text for key, text in (metadata or {}).items() if not key.startswith(_STALE)}
    if embeddings and not NAMINGS[naming].inline:
        holding = " or ".join(name for name, own in NAMINGS.items() if own.inline)
        raise FileError(
            f"textual inversions in it: {', '.join(embeddings)}", path, f"a naming that holds them: {holding}"
        )
    if naming == "peft":
        return _save_folders(path, parts, targets, own)
    tensors = tensors_of(parts, naming_for(naming, targets), path)
    for name, group in (embeddings or {}).items():
        tensors |= {f"{EMBEDDING}{name}.{what}": value for what, value in group.items()}
    if naming == "diffusers" and _scaled(parts):
        own[HEADER] = json.dumps(_configs(parts, path), sort_keys=True)
    stream_safetensors(path, _planned(tensors, parts), {"format": "pt"} | own)
    return [path]


def _planned(tensors: Mapping[str, Tensor], parts: Sequence[Placed]) -> dict[str, Planned]:
    """What is there as it is; differences that are still to be worked out, as they are written."""
    deltas = [delta for _, part in parts for _, delta in part.deltas]
    later = {id(delta.value): delta.make for delta in deltas if isinstance(delta, Later)}
    return {
        name: Planned(tuple(value.shape), value.dtype, later.get(id(value), partial(_itself, value)))
        for name, value in tensors.items()
    }


def _itself(value: Tensor) -> Tensor:
    return value


def read_adapter(path: Path) -> LoraFile:
    """As `read_lora`; also a folder that PEFT saved, and one with such a folder for each network."""
    if not path.is_dir():
        return read_lora(path)
    if (path / MODEL).is_file():
        return read_lora(path / MODEL)
    found = {name: read_lora(path / name / MODEL) for name in NETWORKS if (path / name / MODEL).is_file()}
    if not found:
        raise FileError(
            "a folder without an adapter", path, f"{MODEL} in it, or in folders unet, text_encoder"
        )
    parts = {
        part.stem: part
        for network, file in found.items()
        for part in (_of_network(part, network) for part in file.parts.values())
    }
    unknown = tuple(item for file in found.values() for item in file.unknown)
    return replace(next(iter(found.values())), path=path, parts=parts, unknown=unknown)


def _of_network(part: Part, network: str) -> Part:
    return replace(part, stem=f"{network}.{part.stem}")


def _by_network(parts: Sequence[Placed]) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for one in parts:
        found.setdefault(one.module.network, []).append(one)
    return found


def _configs(parts: Sequence[Placed], path: Path) -> dict[str, object]:
    """diffusers' header: every network's fields, each with the network's name in front."""
    return {
        f"{network}.{field}": value
        for network, own in _by_network(parts).items()
        for field, value in config_of(own, path).items()
    }


def _scaled(parts: Sequence[Placed]) -> bool:
    """Whether anything but the tensors must be known: without a configuration every scale is 1."""
    deltas = [getattr(delta, "inner", delta) for _, part in parts for _, delta in part.deltas]
    alphas = any(part.alpha is not None for _, part in parts)
    return alphas or any(getattr(delta, "scale", 1.0) != 1.0 for delta in deltas)


def _save_folders(
    path: Path, parts: Sequence[Placed], targets: Targets, metadata: Mapping[str, str]
) -> list[Path]:
    """PEFT's adapter folder of a UNet; with text encoders one each, in folders of their names."""
    networks = _by_network(parts)
    made = []
    for network, own in networks.items():
        tensors = tensors_of(own, naming_for("peft", targets), path)
        bare = {name.removeprefix(f"{network}."): value for name, value in tensors.items()}
        folder = path if list(networks) == ["unet"] else path / network
        made.append((folder, bare, config_of(own, path)))
    for folder, tensors, config in made:
        _write_folder(folder, tensors, config, metadata)
    return [folder / MODEL for folder, _, _ in made]


def _write_folder(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, object], metadata: Mapping[str, str]
) -> None:
    partial = folder / f"{CONFIG}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        os.replace(partial, folder / CONFIG)
    except OSError as error:
        raise FileError(f"cannot write: {error}", folder, todo="choose another place") from None
    write_safetensors(folder / MODEL, tensors, {"format": "pt"} | dict(metadata))
