"""A sampler of ours as the function that ComfyUI calls, and as its SAMPLER object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...samplers.levels import NoiseLevels
from ...samplers.spec import Noise, Value
from ..noise import image_seeds, seeded_noise
from ..offers import SamplerOffer
from ..run import host_function
from . import comfy
from .levels import levels_of, noise_scale, sampling_of

MARK = "sigmagraft"  # attribute of functions of ours, also of those of another copy of this package


@dataclass(frozen=True)
class Choice:
    """A sampler with everything a node can say of it.

    Attributes:
        noise_type: `name:option=value,...` of NOISE_TYPES; None is what the sampler asks for.
        noise_kind: generator of the step noise, "cpu", "device" or "nv".
    """

    offer: SamplerOffer
    options: Mapping[str, Value] = field(default_factory=dict)
    noise_type: str | None = None
    noise_kind: str = "cpu"


class Seeds(int):
    """The seed of a batch for the host, an integer; each image's own for us."""

    images: tuple[int, ...] = ()

    @classmethod
    def of(cls, seed: int, images: Sequence[int]) -> Seeds:
        made = cls(seed)
        made.images = tuple(images)
        return made


class _Watched:
    """The host's model, which looks before every evaluation whether the user has cancelled."""

    def __init__(self, model: Any) -> None:
        self.model, self.inner_model = model, model.inner_model

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        comfy("model_management").throw_exception_if_processing_interrupted()
        return self.model(x, sigma, **extra)


def sampler_function(choice: Choice) -> Callable[..., Tensor]:
    """sample(model, x, sigmas, extra_args=, callback=, disable=, **options), with the host's levels and seed."""

    def noise_of(
        model: Any, x: Tensor, sigmas: list[float], levels: NoiseLevels, extra: Mapping[str, Any]
    ) -> Noise:
        seeds = _seeds(extra.get("seed"), len(x))
        made = seeded_noise(
            choice.offer.spec,
            x,
            seeds,
            sigmas,
            levels,
            kind=choice.noise_kind,
            noise_type=choice.noise_type,
        )
        return _scaled(made, noise_scale(sampling_of(model)))

    inner = host_function(choice.offer, levels_of, noise_of, choice.options)

    def sample(model: Any, x: Tensor, sigmas: Tensor, *args: Any, **named: Any) -> Tensor:
        if (
            given := named.get("noise_sampler")
        ) is not None:  # another pack's: unit noise, as ComfyUI's own take it
            named["noise_sampler"] = _scaled(given, noise_scale(sampling_of(model)))
        return inner(_Watched(model), x, sigmas, *args, **named)

    sample.__name__ = sample.__qualname__ = inner.__name__
    sample.__doc__ = inner.__doc__
    setattr(sample, MARK, choice)
    return sample


def _seeds(seed: int | None, count: int) -> list[int]:
    """A seed for each image. Only a program that calls the host leaves the seed out: then it is drawn."""
    images = getattr(seed, "images", ())
    if len(images) == count:
        return list(images)
    return image_seeds(int(torch.randint(2**63 - 1, ()).item()) if seed is None else int(seed), count)


def _scaled(noise: Callable[..., Tensor], scale: float) -> Callable[..., Tensor]:
    return noise if scale == 1.0 else lambda sigma, sigma_next: noise(sigma, sigma_next) * scale


def sampler_object(function: Callable[..., Tensor]) -> Any:
    """The host's SAMPLER around a function; the dictionaries are given since its own defaults are shared ones."""
    samplers = comfy("samplers")
    return samplers.KSAMPLER(function, extra_options={}, inpaint_options={})


def choice_of(function: Any) -> Choice | None:
    """What a function of ours was made from; None for a function of anyone else."""
    return getattr(function, MARK, None)
