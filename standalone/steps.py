"""The sigmas of a run: of a schedule with its options, or of one's own list, and what `strength` leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError
from ..samplers import SCHEDULES, NoiseLevels, SamplerSpec, ScheduleSpec, schedule, sigmas_at
from ..samplers.levels import numbers

if TYPE_CHECKING:
    from .model import ModelInfo
    from .request import Request

USUAL_STEPS = 20
NEARLY_ALL = 0.999  # A1111's strength at most
_ABOVE = 1.05  # how far a list, perhaps of rounded numbers, may begin above the model's range
_TABLES = {"sd2": "sd1", "sdxl-refiner": "sdxl"}  # families that share another's noise levels and table


def sigmas_of(request: Request, sampler: SamplerSpec, levels: NoiseLevels, info: ModelInfo) -> list[float]:
    """The falling sigmas to walk; fills in the request's steps and, without a list, its schedule.

    Raises OptionError for lists or a schedule that the model cannot use.
    """
    whole = own_list(request, levels)
    if whole is None:
        request.schedule = request.schedule or sampler.default_schedule
        request.steps = USUAL_STEPS if request.steps is None else request.steps
        spec = SCHEDULES[request.schedule]
        options = fitted_options(spec, info, (request.width, request.height)) | (
            request.schedule_options or {}
        )
        whole = schedule(spec, whole_steps(request), levels, **options)
    if request.second is not None:
        return whole[-(min(request.steps or 1, len(whole) - 1) + 1) :]
    return whole if request.image is None else _last_part(whole, request.strength)


def whole_steps(request: Request) -> int:
    """Steps of the whole schedule: of a second pass so many that `strength` leaves the steps asked for."""
    steps = USUAL_STEPS if request.steps is None else request.steps
    return steps if request.second is None else max(int(steps / min(request.strength, NEARLY_ALL)), steps)


def own_list(request: Request, levels: NoiseLevels) -> list[float] | None:
    """The request's own list of sigmas or timesteps, and a 0; fills in its steps. None without one.

    Raises OptionError for one that the model cannot walk.
    """
    own = _own(request, levels)
    if own is None:
        return None
    whole = schedule(own, request.steps, levels)
    if whole[0] > levels.sigma_max * _ABOVE:
        what = f"sigma {whole[0]:g} is above the model's largest, {levels.sigma_max:g}"
        raise OptionError(what, todo="begin lower: the model knows nothing of such noise")
    request.steps = len(whole) - 1
    return whole


def _last_part(sigmas: list[float], strength: float) -> list[float]:
    steps = len(sigmas) - 1
    kept = min(max(int(steps * strength + 1e-9), 1), steps)
    return sigmas[steps - kept :]


def check_lists(request: Request) -> None:
    """Brings the lists to floats. OptionError for two ways to say the steps, or for what is no list of numbers."""
    names = [name for name in ("sigmas", "timesteps", "schedule") if getattr(request, name) is not None]
    if len(names) > 1:
        raise OptionError(f"{' and '.join(names)} together", expected="one of them")
    if request.schedule_options and names in (["sigmas"], ["timesteps"]):
        raise OptionError(f"schedule_options with a list of {names[0]}", todo="leave them out")
    for name in ("sigmas", "timesteps"):
        if getattr(request, name) is not None:
            setattr(request, name, numbers(getattr(request, name), name))


def _own(request: Request, levels: NoiseLevels) -> list[float] | None:
    if request.timesteps is not None:
        return sigmas_at(request.timesteps, levels)
    return None if request.sigmas is None else list(request.sigmas)


def fitted_options(spec: ScheduleSpec, info: ModelInfo, size: tuple[int, int]) -> dict[str, Any]:
    """What a schedule's options are for this model and picture where nobody says otherwise.

    `table` is the model's family where the schedule has one for it; `tokens` those of the picture, 16x16 pixels each.
    """
    found: dict[str, Any] = {}
    family = _TABLES.get(info.family, info.family)
    for option in spec.options:
        if option.name == "table" and family in option.choices and info.sigma_max is None:
            found["table"] = family
        if option.name == "tokens":
            found["tokens"] = max((size[0] // 16) * (size[1] // 16), 1)
    return found
