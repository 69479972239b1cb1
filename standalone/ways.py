"""Samplers and schedules named together, with their options, as a comparison lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import OptionError
from ..samplers import SCHEDULES
from ..samplers.foreign import find_method
from ..samplers.spec import Option, SamplerSpec, resolve

Options = tuple[tuple[str, Any], ...]
Named = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Way:
    """A sampler and a schedule ("" is the sampler's own) with their options."""

    sampler: str
    schedule: str = ""
    options: Options = ()
    schedule_options: Options = ()

    @property
    def spec(self) -> SamplerSpec:
        return find_method(self.sampler)

    @property
    def name(self) -> str:
        """As the command line writes it: `euler:s_churn=1 karras`."""
        steps = _written(self.schedule or self.spec.default_schedule or "own", self.schedule_options)
        return f"{_written(self.sampler, self.options)} {steps}"

    @property
    def stochastic(self) -> bool:
        """Whether its walk adds noise, so that it does not tend to the reference's picture."""
        spec = self.spec
        given = dict(self.options).get(spec.noise_option or "")
        return spec.stochastic if given is None else float(given) != 0.0


def _written(name: str, options: Options) -> str:
    return f"{name}{':' if options else ''}{','.join(f'{key}={value}' for key, value in options)}"


def listed(samplers: Iterable[Named], schedules: Sequence[Named] = ()) -> list[Way]:
    """Every sampler with every schedule, or with its own where there is none; names brought to the registered ones.

    Raises OptionError for an unknown name or option.
    """
    steps: list[tuple[str, Options]] = []
    for name, options in schedules:
        spec = SCHEDULES[name]
        steps.append((spec.name, _checked(spec.options, options, f"schedule {spec.name}")))
    found: list[Way] = []
    for name, options in samplers:
        method = find_method(name)
        values = _checked(method.options, options, f"sampler {method.name}")
        found += [Way(method.name, kind, values, more) for kind, more in steps or [("", ())]]
    doubled = [way.name for number, way in enumerate(found) if way in found[:number]]
    if doubled:
        raise OptionError(f"{doubled[0]!r} twice", expected="each once")
    return found


def _checked(declared: Sequence[Option], given: Mapping[str, Any], owner: str) -> Options:
    values = resolve(declared, given, owner)
    return tuple((name, values[name]) for name in given)
