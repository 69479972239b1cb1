"""The noise of a run: of the start, and of the steps, from the generators and of the type that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from ..samplers import ImageNoise, NoiseLevels, SamplerSpec, parse_noise, step_noise
from ..samplers.foreign import ForeignSpec
from ..samplers.noise_types import adds_noise
from ..samplers.spec import Noise

if TYPE_CHECKING:
    from .request import Request

OPTIONAL = ("step_noise", "noise_type")


def check_noise(settings: Mapping[str, Any], sampler: SamplerSpec, options: Mapping[str, Any] | None) -> None:
    """Raises OptionError for a type that does not exist, or one asked for where no noise is added."""
    if settings.get("noise_type") is not None:
        parse_noise(settings["noise_type"])
    asked = [name for name in OPTIONAL if settings.get(name) is not None]
    if asked and not isinstance(sampler, ForeignSpec) and not adds_noise(sampler, options):
        how = f"set its option {sampler.noise_option}" if sampler.noise_option else "choose another"
        what = f"{' and '.join(asked)} for {sampler.name}, which adds no noise to its steps"
        raise OptionError(what, todo=f"leave it out, or {how}")


def start_noise(request: Request, shape: Sequence[int], device: torch.device) -> ImageNoise:
    """Whose first draw is the start noise of every image."""
    return ImageNoise(request.seeds, shape, kind=request.noise, device=device)


def noise_of_steps(
    request: Request, sampler: SamplerSpec, images: ImageNoise, sigmas: Sequence[float], levels: NoiseLevels
) -> Noise:
    """What the sampler draws: on from `images`, or a generator of another kind at the same place, after its first."""
    if request.step_noise not in (None, request.noise):
        kind = {"kind": request.step_noise, "device": images.device, "dtype": images.dtype}
        images = ImageNoise(images.seeds, images.shape, skip=images.drawn, **kind)
    return step_noise(sampler, images, sigmas, levels, request.noise_type)
