"""A walk of A1111's samplers that go by timesteps: DDIM, PLMS, UniPC; their latents are of unit variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import OptionError
from ..samplers import SCHEDULES, NoiseLevels, SamplerSpec
from ..samplers.levels import DiscreteLevels
from .course import Course
from .steps import NEARLY_ALL, whole_steps

if TYPE_CHECKING:
    from .request import Request

OWN = "ddim_uniform@comfyui"  # A1111's DDIM too: the timesteps that these samplers go by, whatever is said
ORIGINAL_STEPS = 50  # of latent consistency models


def lcm_levels(levels: DiscreteLevels) -> tuple[DiscreteLevels, int]:
    """Every 20th of 1000 levels, up to the last, and the stride."""
    stride = len(levels.sigmas) // ORIGINAL_STEPS
    return DiscreteLevels([1 / (1 + sigma**2) for sigma in levels.sigmas[stride - 1 :: stride]]), stride


def timestep_course(
    request: Request, spec: SamplerSpec, levels: NoiseLevels, options: dict[str, Any], whole: bool
) -> Course | None:
    """The walk over timesteps 1, 1 + s, ..., s = 1000 // steps; None for another schedule or model.

    It ends at the first of them, not at 0, and its latent stays one of unit variance. `whole`: UniPC's fractions of
    timesteps are told rounded, from single precision, as Forge does.
    """
    if not isinstance(levels, DiscreteLevels) or _named(request):
        return None
    steps = whole_steps(request)
    places = [min(place + 1, 999) for place in range(0, 1000, max(1000 // steps, 1))]
    at = None
    if request.redraws:
        kept = int(min(request.strength, NEARLY_ALL) * steps)
        kept = kept if request.second is None else (request.steps or steps) - 1
        if kept < 2:
            raise OptionError(f"strength {request.strength}", f"sampler {spec.name}", "two steps or more")
        at, places = levels.sigmas[places[kept]], places[:kept]
    walk, told = _uni_pc(places, levels, at) if spec.name.startswith("uni_pc") else _even(places, levels)
    if whole:
        times = torch.linspace(told[0] / 1000 + 1 / 1000, told[-1] / 1000 + 1 / 1000, len(told))
        told = ((times - 1 / 1000) * 1000).round().tolist() if spec.name.startswith("uni_pc") else told
    request.schedule = OWN
    return Course(
        walk,
        _start(walk[0], at),
        levels,
        _table(walk, told, levels),
        options,
        finish=1 / math.hypot(walk[-1], 1.0),
        span=walk,
    )


def _named(request: Request) -> bool:
    """Whether another schedule than these timesteps, or a list of one's own, is asked for."""
    other = request.schedule is not None and SCHEDULES[request.schedule].name != OWN
    return other or request.sigmas is not None or request.timesteps is not None


def _even(places: list[int], levels: DiscreteLevels) -> tuple[list[float], list[float]]:
    told = [float(place) for place in reversed(places)]
    return [levels.sigmas[place] for place in reversed(places)], told


def _uni_pc(places: list[int], levels: DiscreteLevels, at: float | None) -> tuple[list[float], list[float]]:
    """As many steps as there are places, even in time from the last timestep, or the last place, to the first."""
    last = 999.0 if at is None else float(places[-1])
    told = [last - last * step / len(places) for step in range(len(places) + 1)]
    return [_interpolated(levels, time) for time in told], told


def _interpolated(levels: DiscreteLevels, time: float) -> float:
    """sigma where log alpha is linear between timesteps."""
    low = min(int(time), len(levels.sigmas) - 2)
    logs = [-0.5 * math.log1p(sigma**2) for sigma in levels.sigmas[low : low + 2]]
    log_alpha = logs[0] + (time - low) * (logs[1] - logs[0])
    return math.sqrt(math.expm1(-2 * log_alpha))


def _start(first: float, at: float | None) -> tuple[float, float]:
    """Noise of unit variance; with an image, the image noised to `at` and taken for one at the first level."""
    norm = math.hypot(first, 1.0)
    if at is None:
        return 0.0, norm
    scale = norm / math.hypot(at, 1.0)
    return scale, scale * at


def _table(walk: list[float], told: list[float], levels: NoiseLevels) -> Callable[[float], float]:
    known = dict(zip(walk, told, strict=True))
    return lambda sigma: known[sigma] if sigma in known else levels.timestep(sigma)
