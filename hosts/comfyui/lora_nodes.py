"""Nodes that put LoRAs and their kin on a MODEL and a CLIP: one file, or several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import FileError
from ...loras import Strength, parse_expression
from ...loras.blocks import Blocks
from ...loras.curve import Curve
from ..loras import Shelf, bound_to, by_name, refuse_sources, told
from .fields import Field
from .lora_apply import apply, by_host, layout_of
from .lora_fields import BLOCKS, SCHEDULE, files, path_of
from .node import Node

NONE = "None"  # an empty row of the stack; also what a dropdown says where there are no files
SHOWN = 60  # lines of a report that the page shows; the STRING has all
WEIGHT = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01, "round": False}
FORCE: Field = (
    "BOOLEAN",
    {
        "default": False,
        "tooltip": "apply what fits of a file that was made for another model, instead of refusing it",
    },
)
MODELS: dict[str, Field] = {
    "model": ("MODEL", {"tooltip": "the model to change; what is given stays as it is"})
}
CLIP: Field = ("CLIP", {"tooltip": "the text encoders to change; without them only the UNet is"})


@dataclass(frozen=True)
class Wanted:
    """One file of models/loras and how strongly it acts."""

    name: str
    strength: Strength


class LoraNode(Node):
    """What the loader and the stack share: they keep the files they read last."""

    RETURN_TYPES = ("MODEL", "CLIP", "STRING")
    RETURN_NAMES = ("model", "clip", "report")
    CATEGORY = "SigmaGraft/LoRA"

    def __init__(self) -> None:
        self.shelf = Shelf()

    def put(self, model: Any, clip: Any | None, wanted: Sequence[Wanted], force: bool) -> dict[str, Any]:
        """The node's outputs with these on. FileError, OptionError; nothing given has changed then."""
        paths = [path_of(one.name) for one in wanted]
        layout = layout_of(model, clip)
        reports = []
        if layout is None:
            for one, path in zip(wanted, paths, strict=True):
                model, clip, report = by_host(model, clip, str(path), one.strength)
                reports.append(report)
            return _shown(model, clip, reports)
        bound = [bound_to(file, layout, force) for file in self.shelf.read(paths)]
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


class LoadLora(LoraNode):
    """One file."""

    ID, TITLE = "SigmaGraftLora", "SigmaGraft LoRA"
    DESCRIPTION = (
        "Loads a LoRA of any family and naming for SD1, SD2 or SDXL and says what it did with every tensor. Blocks and "
        "schedule set its weight by block of the UNet and over the run. Files for other models are given to ComfyUI's "
        "own loader."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        required: dict[str, Field] = {
            **MODELS,
            "lora_name": (
                files() or [NONE],
                {"tooltip": "a file in models/loras; reload the page after adding one"},
            ),
            "strength_model": ("FLOAT", {**WEIGHT, "tooltip": "how strongly it acts on the UNet"}),
            "strength_clip": ("FLOAT", {**WEIGHT, "tooltip": "how strongly it acts on the text encoders"}),
        }
        optional: dict[str, Field] = {
            "clip": CLIP,
            "blocks": (BLOCKS, {"tooltip": "weights by block, from SigmaGraft LoRA Blocks"}),
            "schedule": (SCHEDULE, {"tooltip": "its weight over the run, from SigmaGraft LoRA Schedule"}),
            "force": FORCE,
        }
        return {"required": required, "optional": optional}

    @classmethod
    def VALIDATE_INPUTS(cls, lora_name: str | None = None) -> bool | str:
        """True, or that the file is gone."""
        return cls.checked(lambda: lora_name is None or path_of(lora_name))

    @classmethod
    def IS_CHANGED(cls, lora_name: str | None = None, **others: Any) -> int:
        """When the file was changed last."""
        return _changed([lora_name] if lora_name else [])

    def make(
        self,
        model: Any,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
        clip: Any | None = None,
        blocks: Blocks | None = None,
        schedule: Sequence[Curve] = (),
        force: bool = False,
    ) -> dict[str, Any]:
        strength = Strength(strength_model, strength_clip, blocks=blocks, curves=tuple(schedule))
        return self.put(model, clip, [Wanted(lora_name, strength)], force)


class LoraStack(LoraNode):
    """Several files: rows to choose in, and lines in the syntax of prompts."""

    ID, TITLE = "SigmaGraftLoraStack", "SigmaGraft LoRA Stack"
    ROWS = 4
    DESCRIPTION = (
        "Loads several LoRAs at once; of one weight each changes the original. A line of `more` is NAME:WEIGHT:OPTION="
        "VALUE..., such as ink:0.8:te=0.5:blocks=OUTALL:sigma=0@14,1@2. Takes the LORA_STACK of other packs too."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = "NAME:WEIGHT:OPTION=VALUE... on each line: te= te2= unet= blocks= sigma= step= fraction= start= stop="
        required: dict[str, Field] = dict(MODELS)
        for row in range(1, cls.ROWS + 1):
            required[f"lora_{row}"] = (
                [NONE, *files()],
                {"default": NONE, "tooltip": "a file in models/loras"},
            )
            required[f"weight_{row}"] = ("FLOAT", {**WEIGHT, "tooltip": "on UNet and text encoders"})
        required["more"] = ("STRING", {"default": "", "multiline": True, "tooltip": told})
        stack: Field = (
            "LORA_STACK",
            {"tooltip": "rows of (file, weight of the UNet, weight of the text encoders)"},
        )
        return {"required": required, "optional": {"clip": CLIP, "lora_stack": stack, "force": FORCE}}

    @classmethod
    def VALIDATE_INPUTS(cls, more: str | None = None) -> bool | str:
        """True, or which line cannot be read or names no file."""
        return cls.checked(lambda: more is None or [path_of(one.name) for one in written(more)])

    @classmethod
    def IS_CHANGED(cls, more: str | None = None, **rows: Any) -> int:
        """When the files of the widgets were changed last."""
        names = [
            str(value) for name, value in rows.items() if name.startswith("lora_") and isinstance(value, str)
        ]
        return _changed([*names, *(one.name for one in written(more or ""))])

    def make(
        self,
        model: Any,
        more: str,
        clip: Any | None = None,
        lora_stack: Sequence[tuple[str, float, float]] | None = None,
        force: bool = False,
        **rows: Any,
    ) -> dict[str, Any]:
        wanted = [Wanted(name, Strength(unet, text)) for name, unet, text in lora_stack or () if name != NONE]
        for row in range(1, self.ROWS + 1):
            name, weight = rows.get(f"lora_{row}", NONE), rows.get(f"weight_{row}", 1.0)
            if name != NONE:
                wanted.append(Wanted(name, Strength(weight, weight)))
        return self.put(model, clip, [*wanted, *written(more)], force)


def written(text: str) -> list[Wanted]:
    """The LoRAs of lines of text. OptionError, FileError."""
    found = []
    for line in filter(None, (line.strip().strip("<>").removeprefix("lora:") for line in text.splitlines())):
        name, strength, options = parse_expression(line)
        refuse_sources(options, line)
        found.append(Wanted(by_name(name, files()), strength))
    return found


def _changed(names: Sequence[str]) -> int:
    """When the youngest of these files was changed; what is missing is said when the node runs."""
    found = 0
    for name in names:
        try:
            found = max(found, Path(path_of(name)).stat().st_mtime_ns)
        except (FileError, OSError):
            continue
    return found
