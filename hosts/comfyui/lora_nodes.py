"""Nodes that put LoRAs and their kin on a MODEL and a CLIP: one file, or several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from . import control_folders as folders
from .fields import Field
from .lora_fields import BLOCKS, FOLDER, SCHEDULE
from .node import Node

NONE = "None"  # an empty row of the stack; also what a dropdown says where there are no files
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


class LoraNode(Node):
    """What the loader and the stack share: they keep the files they read last."""

    RETURN_TYPES = ("MODEL", "CLIP", "STRING")
    RETURN_NAMES = ("model", "clip", "report")
    CATEGORY = "SigmaGraft/LoRA"

    @cached_property
    def shelf(self) -> Any:
        """The files that it read last."""
        from .lora_make import Shelf

        return Shelf()


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
                folders.listed(FOLDER) or [NONE],
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
        return cls.checked(lambda: lora_name is None or folders.path(FOLDER, lora_name))

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
        blocks: Any | None = None,
        schedule: Sequence[Any] = (),
        force: bool = False,
    ) -> dict[str, Any]:
        from .lora_make import Strength, Wanted, put

        strength = Strength(strength_model, strength_clip, blocks=blocks, curves=tuple(schedule))
        return put(self.shelf, model, clip, [Wanted(lora_name, strength)], force)


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
                [NONE, *folders.listed(FOLDER)],
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
        from .lora_make import written

        return cls.checked(lambda: more is None or [folders.path(FOLDER, one.name) for one in written(more)])

    @classmethod
    def IS_CHANGED(cls, more: str | None = None, **rows: Any) -> int:
        """When the files of the widgets were changed last."""
        from .lora_make import written

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
        from .lora_make import Strength, Wanted, put, written

        wanted = [Wanted(name, Strength(unet, text)) for name, unet, text in lora_stack or () if name != NONE]
        for row in range(1, self.ROWS + 1):
            name, weight = rows.get(f"lora_{row}", NONE), rows.get(f"weight_{row}", 1.0)
            if name != NONE:
                wanted.append(Wanted(name, Strength(weight, weight)))
        return put(self.shelf, model, clip, [*wanted, *written(more)], force)


def _changed(names: Sequence[str]) -> int:
    """When the youngest of these files was changed; what is missing is said when the node runs."""
    return max((folders.changed(FOLDER, name) for name in names), default=0)
