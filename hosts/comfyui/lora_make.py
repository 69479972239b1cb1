"""What the nodes of LoRAs do when they run; loaded then, since a start needs none of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...loras import Strength, parse_expression
from ..loras import Shelf, bound_to, by_name, refuse_sources, told
from . import control_folders as folders
from .lora_apply import apply, by_host, layout_of
from .lora_fields import FOLDER

__all__ = ["Shelf", "Strength", "Wanted", "put", "written"]

SHOWN = 60  # lines of a report that the page shows; the STRING has all


@dataclass(frozen=True)
class Wanted:
    """One file of models/loras and how strongly it acts."""

    name: str
    strength: Strength


def put(shelf: Shelf, model: Any, clip: Any | None, wanted: Sequence[Wanted], force: bool) -> dict[str, Any]:
    """A node's outputs with these on. FileError, OptionError; nothing given has changed then."""
    paths = [folders.path(FOLDER, one.name) for one in wanted]
    layout = layout_of(model, clip)
    reports = []
    if layout is None:
        for one, path in zip(wanted, paths, strict=True):
            model, clip, report = by_host(model, clip, str(path), one.strength)
            reports.append(report)
        return _shown(model, clip, reports)
    bound = [bound_to(file, layout, force) for file in shelf.read(paths)]
    strengths = [one.strength for one in wanted]
    model, clip = apply(model, clip, layout, list(zip(bound, strengths, strict=True)))
    for one in bound:
        for line in one.report.warnings():
            logging.getLogger("sigmagraft").warning("%s", line)
        if one.file.embeddings:
            reports.append(_embeddings(list(one.file.embeddings)))
    return _shown(model, clip, [told(one) for one in bound] + reports)


def _embeddings(names: Sequence[str]) -> str:
    return f"note       brings textual inversions ({', '.join(names)}); ComfyUI reads those from models/embeddings only"


def _shown(model: Any, clip: Any | None, reports: Sequence[str]) -> dict[str, Any]:
    text = "\n\n".join(reports)
    lines = text.splitlines()
    cut = [*lines[:SHOWN], f"... and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else lines
    return {"ui": {"text": ["\n".join(cut)]}, "result": (model, clip, text)}


def written(text: str) -> list[Wanted]:
    """The LoRAs of lines of text. OptionError, FileError."""
    found = []
    for line in filter(None, (line.strip().strip("<>").removeprefix("lora:") for line in text.splitlines())):
        name, strength, options = parse_expression(line)
        refuse_sources(options, line)
        found.append(Wanted(by_name(name, folders.listed(FOLDER)), strength))
    return found
