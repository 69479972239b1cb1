"""Where an IP-Adapter and its image encoder come from: files, folders, the hub, beside one another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..controlnet.clip_vision import ImageEncoder
from ..controlnet.ip_file import IPAdapterFile
from ..core.checkpoint import open_weights
from ..core.errors import MissingPartError
from .bundled import bundled
from .hub import Hub, is_hub_id
from .lora_source import SUFFIXES, locate_lora

FOLDER = "image_encoder"  # the usual name of an encoder's folder
_NAMED = "image_encoder"  # in a file's metadata: the name of its encoder's file beside it


def locate_ip_adapter(
    source: str | Path, subfolder: str | None = None, weight_name: str | None = None, hub: Hub | None = None
) -> Path:
    """The local file: a path, a folder with one, a bundled name, a hub id, or OWNER/NAME/FOLDER/FILE on the hub.

    FileError with what is near.
    """
    if (own := bundled("ip_adapters", source)) is not None:
        return own
    given = {"subfolder": subfolder, "weight_name": weight_name}
    parts = str(source).split("/")
    here = Path(source).expanduser().exists() or not is_hub_id("/".join(parts[:2]))
    if not here and len(parts) > 2 and parts[-1].lower().endswith(SUFFIXES):
        source = "/".join(parts[:2])
        given = {"subfolder": "/".join(parts[2:-1]) or None, "weight_name": parts[-1]}
    options = {name: value for name, value in given.items() if value}
    return locate_lora(source, options=options, hub=hub)


def find_encoder(
    file: IPAdapterFile,
    given: str | Path | None,
    hub: Hub | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ImageEncoder:
    """The image encoder that is given, else the one beside the file that gives what it takes.

    MissingPartError with which one it is and where to get it.
    """
    if given is not None:
        return ImageEncoder.load(_local(given, hub or Hub()), device, dtype)
    for place in _beside(file.source):
        if place.exists() and _fits(ImageEncoder.load(place), file):
            return ImageEncoder.load(place, device, dtype)
    name, where = file.encoder
    raise MissingPartError(
        f"{file.variant.label} needs its image encoder, {name}",
        file.source,
        f"a folder {FOLDER} beside it",
        f"get it from {where}, or name it with encoder=PATH",
    )


def _local(given: str | Path, hub: Hub) -> Path:
    """A path, a hub id, or OWNER/NAME/FOLDER on the hub."""
    path, parts = Path(given).expanduser(), str(given).split("/")
    if path.exists() or len(parts) < 2 or not is_hub_id("/".join(parts[:2])):
        return path
    repo, folder = "/".join(parts[:2]), "/".join(parts[2:])
    return hub.fetch(repo, folder or None)


def _beside(source: Path) -> Iterator[Path]:
    """The file its metadata names, then folders as published ones have them beside models."""
    if source.suffix == ".safetensors" and (named := open_weights(source).metadata.get(_NAMED)):
        yield source.parent / Path(named).name
    for folder in (source.parent, source.parent.parent):
        yield from (folder / FOLDER, folder / "models" / FOLDER, folder / "sdxl_models" / FOLDER)


def _fits(encoder: ImageEncoder, file: IPAdapterFile) -> bool:
    """Whether it has the channels that the adapter takes."""
    sizes = {"pooled": encoder.pooled, "hidden": encoder.hidden}
    return all(sizes[name] == channels for name, channels in file.channels.items() if name != "face")
