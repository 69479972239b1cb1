"""What a person chose for one generation: read from the fields, kept for its walks, written into its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.errors import SigmaGraftError
from ...samplers.noise_types import parse_noise
from ...samplers.restart import restart
from ...samplers.restart_plan import Segment
from ...samplers.spec import SamplerSpec, Value, resolve
from ..offers import SamplerOffer, ScheduleOffer
from ..restarts import format_segments, segments_of
from ..settings import format_options, parse_options

KEY = "SigmaGraft"  # the picture's key, under which the runner writes the same names
AUTOMATIC = "Automatic"
Restarts = tuple[Segment, ...] | str | None
NONE: Mapping[str, Value] = {}


@dataclass(frozen=True)
class Fields:
    """The texts of the accordion, in the order of the API's args, and numbers that axes put over them."""

    options: str = ""
    schedule_options: str = ""
    noise_type: str = ""
    restarts: str = ""
    hires_options: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, args: Sequence[Any], axes: Mapping[str, Any]) -> Fields:
        """What the host hands over; fields that are missing are empty, `axes` win."""
        names = ("options", "schedule_options", "noise_type", "restarts", "hires_options")
        given = {name: str(value or "") for name, value in zip(names, args, strict=False)}
        texts = {name: str(value) for name, value in axes.items() if name in names}
        numbers = {name: value for name, value in axes.items() if name not in (*names, "guidance")}
        return cls(**{**given, **texts, "numbers": numbers})


@dataclass(frozen=True)
class Choice:
    """One generation's choice, checked.

    Attributes:
        sampler, hires_sampler, schedule: the names its options are for.
        restarts: restarts around the sampler; "automatic" is A1111's rule, None is none.
        error: what was wrong with the fields; raised where the walk would begin, since a host swallows it before.
    """

    sampler: str = ""
    hires_sampler: str = ""
    schedule: str = ""
    options: Mapping[str, Value] = field(default_factory=dict)
    hires_options: Mapping[str, Value] = field(default_factory=dict)
    schedule_options: Mapping[str, Value] = field(default_factory=dict)
    noise_type: str | None = None
    restarts: Restarts = None
    error: SigmaGraftError | None = None

    def options_for(self, offer: SamplerOffer, second_pass: bool) -> Mapping[str, Value]:
        """The options of this sampler in this pass. Raises what was wrong with the fields."""
        self.check()
        if second_pass and offer.name == self.hires_sampler and self.hires_options:
            return self.hires_options
        return self.options if offer.name == self.sampler else NONE

    def schedule_options_for(self, offer: ScheduleOffer) -> Mapping[str, Value]:
        """The options of this schedule. Raises what was wrong with the fields."""
        self.check()
        return self.schedule_options if offer.name == self.schedule else NONE

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def around(self, spec: SamplerSpec) -> SamplerSpec:
        """`spec`, with the restarts around it that were chosen."""
        if self.restarts is None or spec.name == "restart":
            return spec
        return restart(spec, None if isinstance(self.restarts, str) else self.restarts)

    def text(self) -> str | None:
        """The value of the picture's key; None where everything is left alone."""
        told = {
            "options": dict(self.options),
            "schedule_options": dict(self.schedule_options),
            "noise_type": self.noise_type,
            "restarts": _written(self.restarts),
            "hires_options": dict(self.hires_options),
        }
        told = {name: value for name, value in told.items() if value}
        return json.dumps(told, ensure_ascii=False) if told else None


def choose(
    fields: Fields,
    sampler: SamplerOffer | None,
    schedule: ScheduleOffer | None,
    hires: SamplerOffer | None = None,
) -> Choice:
    """The choice for our sampler and schedule, None being one of the host's, whose fields go unused."""
    names = Choice(
        sampler.name if sampler else "", hires.name if hires else "", schedule.name if schedule else ""
    )
    try:
        return _read(names, fields, sampler, schedule, hires)
    except SigmaGraftError as error:
        return replace(names, error=error)


def _read(
    choice: Choice,
    fields: Fields,
    sampler: SamplerOffer | None,
    schedule: ScheduleOffer | None,
    hires: SamplerOffer | None,
) -> Choice:
    if sampler or hires:
        choice = replace(
            choice,
            noise_type=_noise_type(fields.noise_type),
            restarts=_restarts(fields.restarts) if sampler else None,
        )
    if sampler:
        spec = choice.around(sampler.spec)
        choice = replace(choice, options=_options(fields.options, fields.numbers, spec))
    if hires:
        spec = choice.around(hires.spec) if hires == sampler else hires.spec
        choice = replace(choice, hires_options=_options(fields.hires_options, NONE, spec))
    if schedule:
        where = f"schedule {schedule.name}"
        options = parse_options(fields.schedule_options, schedule.spec.options, where)
        choice = replace(choice, schedule_options=options)
    return choice


def _options(text: str, numbers: Mapping[str, Any], spec: SamplerSpec) -> dict[str, Value]:
    owner = f"sampler {spec.name}"
    values = parse_options(text, spec.options, owner) | dict(numbers)
    return {name: value for name, value in resolve(spec.options, values, owner).items() if name in values}


def _noise_type(text: str) -> str | None:
    if not text.strip() or text.strip().lower() == AUTOMATIC.lower():
        return None
    parse_noise(text)
    return text.strip()


def _restarts(text: str) -> Restarts:
    words = text.strip().lower()
    if words in ("auto", AUTOMATIC.lower()):
        return AUTOMATIC.lower()
    found = segments_of(text)
    return tuple(found) if found else None


def _written(restarts: Restarts) -> str:
    return (restarts or "") if restarts is None or isinstance(restarts, str) else format_segments(restarts)


def field_of(params: Mapping[str, Any], name: str, spec: SamplerSpec | None = None) -> str:
    """The text of one field as a picture's parameters tell it, ours or the runner's; "" where they do not.

    Where the sampler is `spec`, of ours, an option the runner wrote under a key of the host's is read too.
    """
    value = _extras(params).get(name)
    options = dict(value) if isinstance(value, Mapping) else {}
    if name == "options" and spec is not None:
        known = {option.name for option in spec.options}
        options = {o: params[k] for o, k in HOST_KEYS.items() if o in known and k in params} | options
    return format_options(options) if options else (value if isinstance(value, str) else "")


HOST_KEYS = {
    "eta": "Eta",
    "s_churn": "Sigma churn",
    "s_tmin": "Sigma tmin",
    "s_tmax": "Sigma tmax",
    "s_noise": "Sigma noise",
}


def _extras(params: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        extras = json.loads(params.get(KEY) or "{}")
    except (TypeError, ValueError):
        return {}
    return extras if isinstance(extras, dict) else {}


class _Current:
    """The choice of the generation under way, for schedules, which a host calls without saying for whom."""

    choice = Choice()


def current() -> Choice:
    return _Current.choice


def set_current(choice: Choice) -> None:
    _Current.choice = choice


def choice_of(p: Any) -> Choice:
    """The choice made for this processing, else that of the generation under way."""
    return getattr(p, "sigmagraft_choice", None) or current()
