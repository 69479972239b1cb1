"""A walk as A1111's family and ComfyUI lay it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..samplers import SCHEDULES, NoiseLevels, SamplerSpec, schedule
from ..samplers.levels import DiscreteLevels
from .course import Course
from .course_timesteps import lcm_levels, timestep_course
from .like import Like
from .single import Table, places, singles
from .steps import NEARLY_ALL, USUAL_STEPS, fitted_options, own_list, whole_steps

if TYPE_CHECKING:
    from .model import Model
    from .request import Request

WHOLE = 0.9999  # ComfyUI's denoise above which nothing is left out
CLOSE = 1e-5  # how near to the model's largest sigma ComfyUI takes for it


def host_course(like: Like, request: Request, spec: SamplerSpec, levels: NoiseLevels, model: Model) -> Course:
    """The walk of `request` in that system. OptionError as `steps.sigmas_of`."""
    if request.steps is None and request.sigmas is None and request.timesteps is None:
        request.steps = USUAL_STEPS
    options = like.options_for(spec.name, request.options)
    if like.course == "webui":
        if spec.name in like.by_timesteps and (
            found := timestep_course(request, spec, levels, options, like.whole)
        ):
            return found
        if spec.name in like.few and isinstance(levels, DiscreteLevels):
            return _lcm(like, request, spec, levels, model)
    whole, walk = _sigmas(like, request, spec, levels, model)
    tell = told(levels, whole if like.whole else None)
    course = Course(walk, _start(like, request, walk[0], levels), levels, tell, options)
    return _ended(like, replace(course, span=whole), request, spec)


def told(levels: NoiseLevels, known: Sequence[float] | None) -> Callable[[float], float]:
    """What the network is told: the timestep; with `known`, the whole one whose log sigma is nearest.

    Half way between two single precision decides, so sigmas are taken as they are `known` in it.
    """
    if known is None or not isinstance(levels, DiscreteLevels):
        return levels.timestep
    table, place = Table(levels, by_ratio=False), places(known)
    return lambda sigma: table.timestep(place(sigma))


def _sigmas(
    like: Like, request: Request, spec: SamplerSpec, levels: NoiseLevels, model: Model
) -> tuple[list[float], list[float]]:
    """(the sigmas a tree spans, in single precision: in A1111 the whole schedule's; those that are walked)."""
    own = own_list(request, levels)
    if own is not None:
        return own, _last_steps(like, request, own) if request.redraws else own
    steps = whole_steps(request)
    if request.image is not None and like.course == "comfyui" and request.strength <= WHOLE:
        steps = int(steps / request.strength)
    name = like.schedule_for(spec.name, request.schedule, spec.default_schedule)
    request.schedule = name
    options = fitted_options(SCHEDULES[name], model.info, (request.width, request.height))
    options |= request.schedule_options or {}
    extra = spec.name in like.discards
    whole = schedule(name, steps + extra, levels, **options)
    single = singles(whole, name, options, Table(levels, by_ratio=like.ratio))
    if extra:
        del whole[-2], single[-2]
    if spec.name == "restart" and request.steps is not None and request.steps >= 20:  # A1111's own ramp
        whole = schedule("karras", steps, levels, sigma_max=whole[0], sigma_min=whole[-2])
    walk = _last_steps(like, request, whole) if request.redraws else whole
    return single[-len(walk) :] if like.course == "comfyui" else single, walk


def _last_steps(like: Like, request: Request, whole: list[float]) -> list[float]:
    """What strength leaves: in A1111 one step more than its share, in ComfyUI all the steps asked for."""
    steps = request.steps or len(whole) - 1
    if like.course == "comfyui" or request.second is not None:
        return whole[-(steps + 1) :]
    return whole[max(steps - int(min(request.strength, NEARLY_ALL) * steps) - 1, 0) :]


def _start(like: Like, request: Request, sigma: float, levels: NoiseLevels) -> tuple[float, float]:
    top = levels.sigma_max
    full = like.full and (sigma > top or math.isclose(sigma, top, rel_tol=CLOSE)) and not levels.is_flow
    return levels.alpha(sigma), math.hypot(1.0, sigma) if full else sigma


def _ended(like: Like, course: Course, request: Request, spec: SamplerSpec) -> Course:
    """The walk with its end as the sampler has it there, and DPM-Solver's between the ends alone."""
    walk, options = list(course.sigmas), course.options
    if spec.name in like.ends and walk[-1] == 0.0:
        walk[-1] = like.ends[spec.name]
        if "order" not in (request.options or {}):
            options = {**options, "order": max(min(3, len(walk) - 2), 1)}
    if spec.name in ("dpm_fast", "dpm_adaptive") and len(walk) > 2:
        first, last, steps = walk[0], walk[-1] or walk[-2], len(walk) - 1
        if like.course == "webui" and not request.redraws:
            first, last = course.levels.sigma_max, course.levels.sigma_min
        walk = [first * (last / first) ** (step / steps) for step in range(steps)] + [last]
    return replace(course, sigmas=walk, options=options)


def _lcm(like: Like, request: Request, spec: SamplerSpec, levels: DiscreteLevels, model: Model) -> Course:
    """LCM on a schedule of the 50 timesteps that such a model was distilled on.

    A1111 tells the network one of them; the Forges pass its denoiser by and tell the nearest of all.
    """
    few, stride = lcm_levels(levels)
    whole, walk = _sigmas(like, request, spec, few, model)
    options = like.options_for(spec.name, request.options)
    nearest, own = told(levels, whole), told(few, whole)

    def tell(sigma: float) -> float:
        return nearest(sigma) if like.whole else own(sigma) * stride + stride - 1

    return Course(walk, (1.0, walk[0]), levels, tell, options, span=whole)
