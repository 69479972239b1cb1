"""The noise of a run: of the start, and of the steps, from the generators and of the type that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from ..samplers import ImageNoise, NoiseLevels, SamplerSpec, parse_noise, step_noise
from ..samplers.foreign import ForeignSpec
from ..samplers.noise import SEED_LIMIT
from ..samplers.noise_paths import TorchsdeNoise
from ..samplers.noise_types import adds_noise
from ..samplers.spec import Noise
from .like import Like, find_like
from .like_noise import BatchNoise, BatchTree, EagerNoise
from .single import places

if TYPE_CHECKING:
    from .course import Course
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
    like = find_like(request.like)
    if like is not None and like.together:
        return BatchNoise(request.seeds[0], request.batch, shape, kind=request.noise, device=device)
    return ImageNoise(request.seeds, shape, kind=request.noise, device=device)


def noise_of_steps(
    request: Request, sampler: SamplerSpec, images: ImageNoise, course: Course, levels: NoiseLevels
) -> Noise:
    """What the sampler draws: on from `images`, or a generator of another kind at the same place, after its first.

    Another system's samplers have the types of that system, from the seeds that it gives them.
    """
    like = find_like(request.like)
    if like is not None and request.noise_type is None and sampler.name in like.tree:
        return _tree(like, request, sampler, images, course)
    drawn = _step_images(like, request, sampler, images)
    if like is None or request.noise_type is not None:
        return step_noise(
            sampler, _path_seeds(request, images, drawn), course.sigmas, levels, request.noise_type
        )
    return EagerNoise(drawn, course.sigmas) if course.eager else drawn


def _path_seeds(request: Request, images: ImageNoise, drawn: ImageNoise) -> ImageNoise:
    """A path has an image's own seed, whatever is added to that of the generators."""
    return images if (request.noise_type or "").startswith("brownian") else drawn


def _step_images(like: Like | None, request: Request, sampler: SamplerSpec, images: ImageNoise) -> ImageNoise:
    kind = request.step_noise or request.noise
    more = {"device": images.device, "dtype": images.dtype}
    if isinstance(images, BatchNoise) and like is not None:
        return _together(like, request, sampler, images)
    if request.ensd:
        return ImageNoise([seed + request.ensd for seed in images.seeds], images.shape, kind=kind, **more)
    if kind != request.noise:
        return ImageNoise(images.seeds, images.shape, kind=kind, skip=images.drawn, **more)
    return images


def _together(like: Like, request: Request, sampler: SamplerSpec, images: BatchNoise) -> ImageNoise:
    """ComfyUI's: a generator of the steps' own; what is churned comes from torch's, on the CPU the start's."""
    churned = sampler.noise_option == "s_churn"
    on_cpu = images.device.type == "cpu"
    if churned and on_cpu and request.step_noise is None:
        return images
    seed = images.seeds[0] + (like.step_seed or 0) * (on_cpu and not churned)
    kind = request.step_noise or "device"
    return BatchNoise(
        seed % SEED_LIMIT, images.count, images.shape, kind=kind, device=images.device, dtype=images.dtype
    )


def _tree(like: Like, request: Request, sampler: SamplerSpec, images: ImageNoise, course: Course) -> Noise:
    """torchsde's tree, in A1111 with the numbers of the generator, in ComfyUI one for the batch."""
    sde = sampler.name == "dpmpp_sde"
    more: dict[str, Any] = {"device": images.device, "dtype": images.dtype}
    more["time"] = places(course.span, through_log=sde and not like.together, fractions=True)
    if isinstance(images, BatchNoise):
        return BatchTree(images.seeds[0], images.count, images.shape, course.span, **more)
    kind = request.step_noise or request.noise if like.course == "webui" else "cpu"
    return TorchsdeNoise(images.seeds, images.shape, course.span, kind=kind, **more)
