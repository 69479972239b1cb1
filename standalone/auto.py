"""`--sampler auto`: sampler and schedule by the steps, the model and the guidance, from what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import OptionError
from ..samplers.auto import AUTO, USUAL, Choice, choose
from .guidance_weight import check_guidance
from .levels import levels_of
from .model import ModelInfo

if TYPE_CHECKING:
    from .request import Request


def choice_for(request: Request, info: ModelInfo) -> Choice | None:
    """What `auto` stands for in this request; None where it names a sampler.

    Raises OptionError for a schedule, or options, beside it.
    """
    if request.sampler != AUTO:
        return None
    given = [
        name
        for name in ("schedule", "schedule_options", "sigmas", "timesteps", "options")
        if getattr(request, name)
    ]
    if given:
        raise OptionError(
            f"sampler auto with {' and '.join(given)}",
            expected="either",
            todo="auto chooses the schedule and all options: leave them out, or name a sampler",
        )
    cfg = check_guidance(request.guidance, request.cfg, request.cfg_interval)
    guidance = cfg if request.base == "cfg" else 1.0 + cfg * 10  # cfg++ of 0.6 pulls like cfg at 7
    return choose(request.steps or USUAL, levels_of(info).is_flow, guidance)


def take_auto(request: Request, info: ModelInfo) -> None:
    """Puts the sampler, its options and the schedule that `auto` stands for into the request."""
    choice = choice_for(request, info)
    if choice is None:
        return
    way = choice.way
    request.sampler, request.options = way.sampler, dict(way.options) or None
    request.schedule = way.schedule
    request.schedule_options = way.schedule_options(levels_of(info)) or None
