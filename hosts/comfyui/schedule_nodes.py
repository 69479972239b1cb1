"""Nodes that give SIGMAS: one for each schedule of ours with its options as widgets, and one for any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...samplers.schedules import MAX_STEPS, SCHEDULES, ScheduleSpec, schedule
from ...samplers.spec import Value
from ..settings import parse_options
from .fields import Field, fields_of, values_of
from .levels import sampling_levels
from .node import Node

WALK_FIELDS: dict[str, Field] = {
    "model": ("MODEL", {"tooltip": "the model whose noise levels the schedule is for"}),
    "steps": ("INT", {"default": 20, "min": 1, "max": MAX_STEPS, "tooltip": "steps to take"}),
    "denoise": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "below 1: only the end of a longer schedule, for img2img",
        },
    ),
}


def sigmas_of(
    spec: ScheduleSpec, model: Any, steps: int, denoise: float, options: Mapping[str, Value]
) -> Tensor:
    """The last `steps` steps of a schedule of steps / denoise; none at denoise 0. BasicScheduler's rule."""
    if denoise <= 0.0:
        return torch.empty(0)
    levels = sampling_levels(model.get_model_object("model_sampling"))
    sigmas = schedule(spec, max(int(steps / denoise), steps), levels, **options)
    return torch.tensor(sigmas[-(steps + 1) :], dtype=torch.float32)


class AnySchedule(Node):
    """Any schedule of SigmaGraft, its options in one line."""

    ID, TITLE = "SigmaGraftScheduler", "SigmaGraft Scheduler"
    RETURN_TYPES = ("SIGMAS",)
    DESCRIPTION = "Any schedule of SigmaGraft; name@system is the way that system makes it."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        names = SCHEDULES.names()
        return {
            "required": {
                "scheduler": (names, {"default": "karras", "tooltip": "a schedule of SigmaGraft"}),
                **WALK_FIELDS,
                "options": (
                    "STRING",
                    {"default": "", "tooltip": "NAME=VALUE, NAME=VALUE; empty: the defaults"},
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, scheduler: str | None = None, options: str | None = None) -> bool | str:
        """True, or why these options cannot be."""
        return cls.checked(lambda: scheduler is None or _written(SCHEDULES[scheduler], options or ""))

    def make(self, scheduler: str, model: Any, steps: int, denoise: float, options: str) -> tuple[Tensor]:
        spec = SCHEDULES[scheduler]
        return (sigmas_of(spec, model, steps, denoise, _written(spec, options)),)


def _written(spec: ScheduleSpec, text: str) -> dict[str, Value]:
    return parse_options(text, spec.options, f"schedule {spec.name}")


def schedule_id(spec: ScheduleSpec) -> str:
    """The id of a schedule's node: letters, digits and _ alone, which translations need."""
    return "SigmaGraftSchedule_" + re.sub(r"\W", "_", spec.name.replace("@", "_at_"))


def schedule_node(spec: ScheduleSpec) -> type[Node]:
    """The node of one schedule."""

    def input_types(cls: type) -> dict[str, dict[str, Field]]:
        return {"required": dict(WALK_FIELDS), "optional": fields_of(spec.options)}

    def make(self: Node, model: Any, steps: int, denoise: float, **widgets: Any) -> tuple[Tensor]:
        return (sigmas_of(spec, model, steps, denoise, values_of(spec.options, widgets)),)

    return type(
        f"Schedule_{spec.name}",
        (Node,),
        {
            "ID": schedule_id(spec),
            "TITLE": f"SigmaGraft {spec.label} Scheduler",
            "CATEGORY": "SigmaGraft/schedules",
            "RETURN_TYPES": ("SIGMAS",),
            "DESCRIPTION": _told(spec),
            "INPUT_TYPES": classmethod(input_types),
            "make": make,
        },
    )


def _told(spec: ScheduleSpec) -> str:
    text = " ".join((spec.make.__doc__ or spec.label).split())
    return "\n".join(line for line in (text, f"For {spec.needs.text}.", spec.paper) if line)
