"""How a request is walked: its sigmas, how x begins and ends, what the network is told; ours, and other systems'."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..samplers import NoiseLevels, SamplerSpec
from .like import find_like
from .steps import sigmas_of

if TYPE_CHECKING:
    from .model import Model
    from .request import Request


@dataclass(frozen=True)
class Course:
    """One walk.

    Attributes:
        sigmas: falling.
        start: (image, noise): what the image's latent (or 0) and unit noise are multiplied by and added to be x.
        levels: what the sigmas mean to the method.
        told: sigma -> what the network is told.
        options: the sampler's.
        finish: what the finished latent is multiplied by.
        span: the sigmas that a Brownian tree spans, those of the walk or more, as the system has rounded them.
        eager: every step draws noise, be it used or not.
    """

    sigmas: list[float]
    start: tuple[float, float]
    levels: NoiseLevels
    told: Callable[[float], float]
    options: dict[str, Any] = field(default_factory=dict)
    finish: float = 1.0
    span: Sequence[float] = ()
    eager: bool = False


def course_of(request: Request, spec: SamplerSpec, levels: NoiseLevels, model: Model) -> Course:
    """The walk of a resolved request; fills in its steps and schedule.

    Raises OptionError for lists or a schedule that the model cannot use.
    """
    like = find_like(request.like)
    if like is not None and like.course == "diffusers" and not _listed(request):
        from .course_diffusers import diffusers_course

        if (found := diffusers_course(like, request, spec, levels, model)) is not None:
            return found
    if like is not None and like.course in ("webui", "comfyui"):
        from .course_host import host_course

        return host_course(like, request, spec, levels, model)
    sigmas = sigmas_of(request, spec, levels, model.info)
    return Course(
        sigmas, own_start(request, sigmas[0], levels), levels, levels.timestep, dict(request.options or {})
    )


def own_start(request: Request, sigma: float, levels: NoiseLevels) -> tuple[float, float]:
    """alpha * init + sigma * noise; without an image noise of the deviation that x has there."""
    alpha = levels.alpha(sigma)
    return alpha, math.hypot(alpha, sigma) if not request.redraws else sigma


def _listed(request: Request) -> bool:
    return request.sigmas is not None or request.timesteps is not None
