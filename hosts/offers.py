"""What a host gets of ours: what it lacks, under the field's names; exact twins of some it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..core.registry import fold
from ..samplers.schedules import SCHEDULES, ScheduleSpec
from ..samplers.spec import SAMPLERS, SamplerSpec, Value


@dataclass(frozen=True)
class SamplerOffer:
    """A sampler under the name and label a host lists it by, with options preset where the name promises them."""

    name: str
    label: str
    spec: SamplerSpec
    preset: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleOffer:
    """A schedule under the name and label a host lists it by."""

    name: str
    label: str
    spec: ScheduleSpec


# Hosts walk these in -log sigma on rectified flow; ours walk in log(alpha / sigma) there.
EXACT_ON_FLOW = (
    *("dpmpp_2m", "res_multistep", "res_multistep_ancestral", "ddpm"),
    *("uni_pc", "uni_pc_bh2", "dpm_fast", "dpm_adaptive"),
)


def sampler_offers(taken: Iterable[str]) -> list[SamplerOffer]:
    """Our samplers for a host that lists `taken` (names or labels): those it lacks, and exact twins of some it has."""
    taken = list(taken)
    had = _known(taken)
    words = {fold(name) for name in taken}
    return [offer for offer in _samplers(had) if not words & {fold(offer.name), fold(offer.label)}]


def _samplers(had: set[str]) -> Iterator[SamplerOffer]:
    for spec in SAMPLERS:
        if spec.name not in had:
            yield SamplerOffer(spec.name, spec.label, spec)
        elif spec.name in EXACT_ON_FLOW:
            yield SamplerOffer(f"{spec.name}_exact", f"{spec.label} exact", spec)


def schedule_offers(taken: Iterable[str]) -> list[ScheduleOffer]:
    """Our schedules for a host that lists `taken`: each base name it lacks, once, the plain one before name@system."""
    taken = list(taken)
    bases = {SCHEDULES[name].base for name in taken if name in SCHEDULES}
    words = bases | {fold(name) for name in taken}
    found: dict[str, ScheduleOffer] = {}
    for spec in SCHEDULES:
        if not words & {spec.base, fold(spec.label)}:
            found.setdefault(spec.base, ScheduleOffer(spec.base, spec.label, spec))
    return list(found.values())


def kept(taken: Iterable[str]) -> list[str]:
    """The names of our samplers that stay the host's, since it lists them already."""
    had = _known(taken)
    return [name for name in SAMPLERS.names() if name in had]


def _known(names: Iterable[str]) -> set[str]:
    return {SAMPLERS[name].name for name in names if name in SAMPLERS}
