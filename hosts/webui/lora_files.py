"""Which file a tag in a prompt means, and whether the host's own loader reads all of it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ...loras import Bound
from ..loras import by_name

ENDINGS = (".safetensors", ".pt", ".ckpt")
NAMINGS = frozenset({"kohya", "kohya (LDM names)", "kohya (diffusers names)"})
"""The names of modules that every host reads; of others some read a part."""

_ALL = frozenset({"LoRA", "LoHa", "LoKr", "GLoRA", "full difference"})
FAMILIES = {
    "a1111": _ALL | {"OFT", "BOFT", "(IA)3"},
    "forge": _ALL,
    "adapters": _ALL | {"OFT", "BOFT", "set weight"},
}
"""The families that each kind of host reads."""


def file_of(name: str) -> Path:
    """The file in the host's folders of LoRAs, by the name or alias it lists. FileError with the nearest name."""
    entry = entry_of(name)
    if entry is not None:
        return Path(entry.filename)
    listed = {path.relative_to(folder).as_posix(): path for folder in _folders() for path in _files(folder)}
    return listed[by_name(name, listed)]


def entry_of(name: str) -> Any | None:
    """What the host knows of a file of this name; None where it does not list it."""
    networks: Any = sys.modules.get("networks")
    for table in ("available_networks", "available_network_aliases"):
        entry = getattr(networks, table, {}).get(name)
        if entry is not None and Path(entry.filename).is_file():
            return entry
    return None


def _folders() -> list[Path]:
    from modules import shared

    options = shared.cmd_opts
    named = [getattr(options, "lora_dir", None), *getattr(options, "lora_dirs", ())]
    return [Path(folder) for folder in named if folder and Path(folder).is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS)


def host_reads(bound: Bound, families: Collection[str]) -> bool:
    """Whether a host that reads these families does all of this file, or none of us does any."""
    if bound.report.refused or not bound.deltas:
        return True
    own = {family.removeprefix("DoRA of ") for family in bound.file.families}
    return own <= set(families) and set(bound.report.namings) <= NAMINGS
