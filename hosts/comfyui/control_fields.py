"""Widgets that controls and image prompts have in common: when they act."""

from __future__ import annotations

from typing import Any

from .fields import Field

STEPS, SCHEDULE = "steps", "schedule"
_SIGMA = {"default": 0.0, "min": 0.0, "max": 10000.0, "step": 0.01, "round": False}


def share(default: float, told: str) -> Field:
    """A widget for 0 to 1."""
    return "FLOAT", {
        "default": default,
        "min": 0.0,
        "max": 1.0,
        "step": 0.001,
        "round": False,
        "tooltip": told,
    }


def text(told: str, default: str = "") -> Field:
    """A line of text."""
    return "STRING", {"default": default, "tooltip": told}


WHEN: dict[str, Field] = {
    "start": share(0.0, "where it begins to act"),
    "end": share(1.0, "where it ends; a step acts that lies whole between start and end"),
    "range": (
        [STEPS, SCHEDULE],
        {
            "tooltip": "start and end are shares of the steps, or of the model's whole schedule as in Apply ControlNet"
        },
    ),
}
SIGMAS: dict[str, Field] = {
    "sigma_start": ("FLOAT", {**_SIGMA, "tooltip": "acts at this noise level and below; 0 is no limit"}),
    "sigma_end": ("FLOAT", {**_SIGMA, "tooltip": "acts at this noise level and above"}),
}


def when(
    model: Any, start: float, end: float, range: str = STEPS, sigma_start: float = 0.0, sigma_end: float = 0.0
) -> dict[str, Any]:
    """The widgets of WHEN and SIGMAS as settings."""
    high, low = sigma_start or None, sigma_end or None
    if range != SCHEDULE:
        return {"start": start, "end": end, "sigma_start": high, "sigma_end": low}
    at = model.get_model_object("model_sampling").percent_to_sigma
    first, last = float(at(start)), float(at(end))
    return {
        "sigma_start": first if high is None else min(first, high),
        "sigma_end": max(last, low or 0.0) or None,
    }
