"""Nodes for clips: a file of motion modules, and what it does to a MODEL."""

from __future__ import annotations

from typing import Any

from ...animate.windows import FUSE, KINDS, Plan
from . import control_folders as folders
from .fields import Field
from .node import Node

KIND = "animatediff_models"
MOTION = "SIGMAGRAFT_MOTION"
CATEGORY = "SigmaGraft/clips"


class MotionLoader(Node):
    """A file of motion modules."""

    ID, TITLE, CATEGORY = "SigmaGraftMotionLoader", "SigmaGraft Motion Loader", CATEGORY
    RETURN_TYPES = (MOTION,)
    DESCRIPTION = "Motion modules of AnimateDiff (v1, v2, v3, SDXL) or AnimateLCM, told by their tensors."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = "a file in models/animatediff_models; reload the page after adding one"
        return {"required": {"file": (folders.names(KIND), {"tooltip": told})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        """True, or what is wrong with the file."""
        from .motion_make import open_motion

        return cls.checked(lambda: file is None or open_motion(folders.path(KIND, file)))

    @classmethod
    def IS_CHANGED(cls, file: str | None = None) -> int:
        return folders.changed(KIND, file)

    def make(self, file: str) -> tuple[Any]:
        from .motion_make import load

        return (load(folders.path(KIND, file)),)


class ApplyMotion(Node):
    """Motion modules on a MODEL."""

    ID, TITLE, CATEGORY = "SigmaGraftMotionApply", "SigmaGraft Apply Motion", CATEGORY
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "The images of a batch become the frames of one clip. Controls, image prompts and LoRAs act frame by frame, "
        "before or after this node; clips longer than a window are drawn in overlapping windows."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        strength = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01, "round": False}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model that draws"}),
                "motion": (MOTION, {"tooltip": "a file of SigmaGraft Motion Loader"}),
                "strength": ("FLOAT", {**strength, "tooltip": "of what the modules add"}),
                "windows": (
                    list(KINDS),
                    {"tooltip": "uniform moves them at each step, looped over the end as well"},
                ),
                "length": ("INT", {"default": 16, "min": 1, "max": 128, "tooltip": "frames of a window"}),
                "overlap": (
                    "INT",
                    {"default": 4, "min": 0, "max": 127, "tooltip": "frames shared with the next"},
                ),
                "stride": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 16,
                        "tooltip": "also windows over each 2nd, 4th ... frame",
                    },
                ),
                "fuse": (list(FUSE), {"tooltip": "weight of a frame by its place in a window"}),
                "norms": (
                    ["authors", "diffusers"],
                    {"tooltip": "group norms as AnimateDiff's authors or diffusers"},
                ),
                "betas": (
                    ["motion", "model"],
                    {"tooltip": "noise levels the modules were trained on, or the model's"},
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, length: int | None = None, overlap: int | None = None) -> bool | str:
        """True, or why the windows cannot be."""
        return cls.checked(lambda: Plan(length=length or 16, overlap=overlap or 0))

    def make(
        self,
        model: Any,
        motion: Any,
        strength: float,
        windows: str,
        length: int,
        overlap: int,
        stride: int,
        fuse: str,
        norms: str,
        betas: str,
    ) -> tuple[Any]:
        from .motion_make import apply

        longest = motion.file.config.length
        plan = Plan(min(length, longest), min(overlap, longest - 1), windows, stride, fuse)
        return (apply(model, motion, plan, norms == "diffusers", strength, betas == "model"),)
