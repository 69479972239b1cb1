"""Samplers that walk levels of their own, in the place of steps and a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import OptionError
from ..samplers.foreign import find_method

if TYPE_CHECKING:
    from .request import Request


def take_own_levels(request: Request) -> None:
    """Puts the sampler's own levels, where it has some, into `request.sigmas`.

    Raises OptionError where the request names a schedule, another number of steps or another list.
    """
    spec = find_method(request.sampler)
    if not spec.sigmas or (request.sigmas is not None and tuple(request.sigmas) == spec.sigmas):
        return
    steps = len(spec.sigmas) - 1
    names = [
        name
        for name in ("schedule", "schedule_options", "sigmas", "timesteps")
        if getattr(request, name) is not None
    ]
    if request.steps not in (None, steps):
        names.append(f"{request.steps} steps")
    if names:
        raise OptionError(
            f"{' and '.join(names)} with levels of its own",
            f"sampler {spec.name}",
            f"its own {steps} steps",
            "leave them out",
        )
    request.sigmas, request.steps = list(spec.sigmas), steps
