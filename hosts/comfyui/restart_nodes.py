"""Restart around any SAMPLER, ours or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.errors import OptionError
from ...samplers.noise import ImageNoise
from ...samplers.restart import restart
from ...samplers.restart_plan import Segment, automatic, plan
from ..noise import image_seeds
from ..offers import SamplerOffer
from ..restarts import segments_of
from .fields import Field
from .function import Choice, Seeds, choice_of, sampler_function, sampler_object
from .levels import levels_of, noise_scale, sampling_of
from .node import Node

SALT = 0x9E3779B97F4A7C15  # apart from every seed that a person counts up to


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
    return _Walks(function, segments, s_noise)


def _noisy(choice: Choice) -> bool:
    spec = choice.offer.spec
    return bool(spec.noise_option and choice.options.get(spec.noise_option))


class _Walks:
    """Any sampler function, called for one walk after the other; noise takes x up to where the next begins."""

    def __init__(
        self, function: Callable[..., Tensor], segments: Sequence[Segment] | None, s_noise: float
    ) -> None:
        self.function, self.segments, self.s_noise = function, segments, s_noise
        self.__name__ = f"restart_{getattr(function, '__name__', 'sampler')}"

    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        **options: Any,
    ) -> Tensor:
        """The walks of the plan, which has as many steps as `sigmas`."""
        if len(sigmas) < 2:
            return x
        levels = levels_of(model, [])
        told = levels.check(sigmas.tolist())
        walks, done = self._plan(told, levels), 0
        extra = dict(extra_args or {})
        noise = _noise_between(x, extra.get("seed"), noise_scale(sampling_of(model)) * self.s_noise)
        for number, walk in enumerate(walks):
            if number:
                scale, std = levels.renoise(walks[number - 1][-1], walk[0])
                x = x * scale + noise() * std
                extra["seed"] = _apart(extra.get("seed"), number)
            part = torch.tensor(walk, dtype=sigmas.dtype, device=sigmas.device)
            x = self.function(
                model,
                x,
                part,
                extra_args=extra,
                callback=_counting(callback, done),
                disable=disable,
                **options,
            )
            done += len(walk) - 1
        return x

    def _plan(self, sigmas: list[float], levels: Any) -> list[list[float]]:
        if self.s_noise == 0.0:
            return [sigmas]
        if self.segments is None:
            return plan(sigmas, automatic(len(sigmas) - 1), levels, by_rule=True)
        return plan(sigmas, self.segments, levels)


def _noise_between(x: Tensor, seed: int | None, scale: float) -> Callable[[], Tensor]:
    salted = _apart(seed, 0)
    seeds = getattr(salted, "images", ()) or image_seeds(salted, len(x))
    images = ImageNoise(seeds, x.shape[1:], device=x.device, dtype=x.dtype)
    return lambda: images.next() * scale


def _apart(seed: int | None, walk: int) -> Seeds:
    """Another seed, since a sampler that starts anew would draw the noise of the first walk again."""
    images = [_mixed(image, walk) for image in getattr(seed, "images", ())]
    return Seeds.of(_mixed(int(seed or 0), walk), images)


def _mixed(seed: int, walk: int) -> int:
    return (seed ^ (SALT * (walk + 1))) % 2**63


def _counting(
    callback: Callable[[dict[str, Any]], Any] | None, done: int
) -> Callable[[dict[str, Any]], Any] | None:
    return callback and (lambda state: callback({**state, "i": state["i"] + done}))


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
