"""Restart around any SAMPLER, ours or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ...core.errors import OptionError
from ...samplers.restart import restart
from ..offers import SamplerOffer
from ..restarts import segments_of
from .fields import Field
from .function import Choice, choice_of, sampler_function, sampler_object
from .node import Node
from .walks import Walks


def restarted(function: Callable[..., Tensor], text: str, s_noise: float) -> Callable[..., Tensor]:
    """A sampler function with restarts: our own method where it is a deterministic one of ours, else walk by walk."""
    choice, segments = choice_of(function), segments_of(text)
    if (
        choice is not None
        and not (spec := choice.offer.spec).stochastic
        and spec.order
        and not _noisy(choice)
    ):
        around = restart(spec, segments)
        offer = SamplerOffer(around.name, around.label, around)
        options = {**choice.offer.preset, **choice.options}
        options.pop("s_noise", None)
        return sampler_function(replace(choice, offer=offer, options={**options, "s_noise": s_noise}))
    return Walks(function, segments, s_noise)


def _noisy(choice: Choice) -> bool:
    spec = choice.offer.spec
    return bool(spec.noise_option and choice.options.get(spec.noise_option))


class RestartNode(Node):
    """Restart (Xu et al. 2023) around another sampler."""

    ID, TITLE = "SigmaGraftRestart", "SigmaGraft Restart around a Sampler"
    RETURN_TYPES = ("SAMPLER",)
    DESCRIPTION = (
        "Goes back up with new noise and down again, around any sampler: as many steps in all as the schedule "
        "has. arXiv:2306.14878"
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = (
            "one restart a line: steps, times, t_min, t_max (sigma / alpha), such as 9, 1, 0.1, 2; empty is A1111's "
            "rule, which restarts from 20 steps on"
        )
        noise = "scale of the noise between walks; 0 leaves the restarts out"
        return {
            "required": {
                "sampler": ("SAMPLER", {"tooltip": "the method of every walk"}),
                "restarts": ("STRING", {"default": "", "multiline": True, "tooltip": told}),
                "s_noise": (
                    "FLOAT",
                    {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01, "round": False, "tooltip": noise},
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, restarts: str | None = None) -> bool | str:
        """True, or which restart cannot be."""
        return cls.checked(lambda: restarts is None or segments_of(restarts))

    def make(self, sampler: Any, restarts: str, s_noise: float) -> tuple[Any]:
        function = getattr(sampler, "sampler_function", None)
        if function is None:
            raise OptionError(
                f"a sampler of type {type(sampler).__name__}",
                "SigmaGraft Restart",
                "a sampler that is a function, as KSamplerSelect gives it",
            )
        made = sampler_object(restarted(function, restarts, s_noise))
        made.extra_options = dict(sampler.extra_options)
        made.inpaint_options = dict(sampler.inpaint_options)
        return (made,)
