"""Nodes that give SIGMAS from your own list: of sigmas, or of timesteps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.errors import OptionError
from ...samplers.levels import NoiseLevels
from ...samplers.schedules import schedule, sigmas_at
from .fields import Field
from .levels import sampling_levels
from .node import Node


def numbers(text: str) -> list[float]:
    """The numbers of a text, parted by commas, spaces, semicolons or line ends. Raises OptionError for other words."""
    found = []
    for word in text.replace(",", " ").replace(";", " ").replace("[", " ").replace("]", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            raise OptionError(
                f"{word!r} in a list of numbers", expected="such as 14.6, 6.3, 1.5, 0"
            ) from None
    return found


def _list_field(default: str, tooltip: str) -> Field:
    return "STRING", {"default": default, "multiline": True, "tooltip": tooltip}


class OwnSigmas(Node):
    """Your own sigmas."""

    ID, TITLE = "SigmaGraftSigmas", "SigmaGraft Own Sigmas"
    CATEGORY = "SigmaGraft/schedules"
    RETURN_TYPES = ("SIGMAS",)
    DESCRIPTION = "Your own falling sigmas; a last 0 is added where it is missing."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        shown = "14.61, 6.47, 3.86, 2.70, 1.89, 1.16, 0.60, 0.25, 0.03, 0"
        return {
            "required": {"sigmas": _list_field(shown, "from the largest to the smallest")},
            "optional": {"model": ("MODEL", {"tooltip": "with a model, its range is checked too"})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, sigmas: str | None = None) -> bool | str:
        """True, or which word is no number."""
        return cls.checked(lambda: sigmas is None or numbers(sigmas))

    def make(self, sigmas: str, model: Any = None) -> tuple[Tensor]:
        levels = (
            sampling_levels(model.get_model_object("model_sampling")) if model else NoiseLevels.discrete()
        )
        return (torch.tensor(schedule(numbers(sigmas), None, levels), dtype=torch.float32),)


class OwnTimesteps(Node):
    """Your own timesteps, as the network is told them."""

    ID, TITLE = "SigmaGraftTimesteps", "SigmaGraft Own Timesteps"
    CATEGORY = "SigmaGraft/schedules"
    RETURN_TYPES = ("SIGMAS",)
    DESCRIPTION = "The sigmas of your own falling timesteps, and a last 0."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        shown = "999, 749, 499, 249"
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "the model whose timesteps they are"}),
                "timesteps": _list_field(shown, "from the largest to the smallest"),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, timesteps: str | None = None) -> bool | str:
        """True, or which word is no number."""
        return cls.checked(lambda: timesteps is None or numbers(timesteps))

    def make(self, model: Any, timesteps: str) -> tuple[Tensor]:
        levels = sampling_levels(model.get_model_object("model_sampling"))
        return (torch.tensor(sigmas_at(numbers(timesteps), levels), dtype=torch.float32),)
