"""What LoRA nodes are connected by; the nodes that say where and when a LoRA acts.

What reads their texts is loaded when they run, since a start needs none of it.
"""

from __future__ import annotations

from typing import Any

from .fields import Field
from .node import Node

BLOCKS, SCHEDULE = "SIGMAGRAFT_LORA_BLOCKS", "SIGMAGRAFT_LORA_SCHEDULE"
FOLDER = "loras"


class BlocksNode(Node):
    """Weights by block."""

    ID, TITLE = "SigmaGraftLoraBlocks", "SigmaGraft LoRA Blocks"
    CATEGORY = "SigmaGraft/LoRA"
    RETURN_TYPES = (BLOCKS,)
    DESCRIPTION = (
        "How strongly a LoRA acts in each block of the UNet: a preset, or `blocks`: 12, 17, 20 or 26 values, or names "
        "such as IN=0,OUT03-OUT05=0.5,MID=1 (BASE is the text encoders)."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        from ...loras.blocks import PRESETS

        told = "values or NAME=factor, separated by commas; empty takes the preset"
        return {
            "required": {
                "preset": (
                    list(PRESETS),
                    {"default": "ALL", "tooltip": "as in A1111's extension for block weights"},
                ),
                "blocks": ("STRING", {"default": "", "tooltip": told}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, blocks: str | None = None) -> bool | str:
        """True, or what in the text cannot be read."""
        from ...loras.blocks import parse_blocks

        return cls.checked(lambda: not blocks or parse_blocks(blocks.strip(), "blocks"))

    def make(self, preset: str, blocks: str) -> tuple[Any]:
        from ...loras.blocks import parse_blocks

        return (parse_blocks(blocks.strip() or preset, "blocks"),)


class ScheduleNode(Node):
    """A weight over the run."""

    ID, TITLE = "SigmaGraftLoraSchedule", "SigmaGraft LoRA Schedule"
    CATEGORY = "SigmaGraft/LoRA"
    RETURN_TYPES = (SCHEDULE,)
    DESCRIPTION = (
        "A LoRA's weight over the run: value@place, straight lines between. By sigma it means the same at every number "
        "of steps: 0@14,1@2 is 0 down to sigma 14 and 1 from sigma 2. `window` leaves it out elsewhere: 5-20 are "
        "steps, 0.2-0.6 parts of the run. Several multiply."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        from ...loras.curve import AXES

        return {
            "required": {
                "axis": (list(AXES), {"tooltip": "what places are: sigma, step, or fraction of the run"}),
                "points": (
                    "STRING",
                    {"default": "0@14,1@2", "tooltip": "value@place, ...; empty leaves it at 1"},
                ),
                "window": (
                    "STRING",
                    {"default": "", "tooltip": "begin-end, such as 5-20 or 0.2-0.6; empty is always"},
                ),
            },
            "optional": {"schedule": (SCHEDULE, {"tooltip": "another one, which multiplies this"})},
        }

    @classmethod
    def VALIDATE_INPUTS(
        cls, axis: str | None = None, points: str | None = None, window: str | None = None
    ) -> bool | str:
        """True, or what in the texts cannot be read; texts that are linked are read when it runs."""
        from ...loras.curve import AXES

        return cls.checked(lambda: curves(axis or AXES[0], points or "", window or ""))

    def make(self, axis: str, points: str, window: str, schedule: tuple[Any, ...] = ()) -> tuple[Any]:
        return ((*schedule, *curves(axis, points, window)),)


def curves(axis: str, points: str, window: str) -> tuple[Any, ...]:
    """The curves of the two texts. OptionError."""
    from ...loras.curve import parse_curve, parse_window

    found = [parse_curve(points, axis, "points")] if points.strip() else []
    return (*found, *([parse_window("step", window.strip(), "window")] if window.strip() else []))
