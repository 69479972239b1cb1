"""General ways to walk in few steps: samplers with schedules, what `auto` chooses from and a calibration must beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .levels import NoiseLevels
from .schedules import SCHEDULES, schedule
from .spec import SAMPLERS


@dataclass(frozen=True)
class General:
    """A sampler and a schedule with their options.

    Attributes:
        floor: where above 0 the last level of the schedule is, as a share of the first; 0 leaves it to the schedule.
        top: the first level, as a share of the model's largest.
    """

    sampler: str
    schedule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    floor: float = 0.0
    top: float = 1.0

    @property
    def label(self) -> str:
        """As the command line writes it, but for the range."""
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        drawn = f" to {self.floor:g}" if self.floor else ""
        return f"{self.sampler}{':' if options else ''}{options} {self.schedule}{drawn}"

    def schedule_options(self, levels: NoiseLevels) -> dict[str, float]:
        """The schedule's options for a model with these levels."""
        if not self.floor:
            return {}
        first = self.top * levels.sigma_max
        return {"sigma_max": first, "sigma_min": max(self.floor * first, levels.sigma_min)}

    def sigmas(self, steps: int, levels: NoiseLevels) -> list[float]:
        """The levels of so many steps. OptionError where the schedule cannot serve this model or this count."""
        return schedule(self.schedule, steps, levels, **self.schedule_options(levels))

    def serves(self, levels: NoiseLevels) -> bool:
        """Whether sampler and schedule are for such a model."""
        drawn = not (self.floor and levels.is_flow)
        fits = SCHEDULES[self.schedule].needs.serves(levels)
        return drawn and fits and (SAMPLERS[self.sampler].flow or not levels.is_flow)


def _low(sampler: str, options: Mapping[str, Any] | None = None) -> General:
    """On karras from 12 to 0.1 on Stable Diffusion's levels."""
    return General(sampler, "karras", options or {}, floor=0.008, top=0.82)


GENERAL: tuple[General, ...] = (
    _low("euler"),
    General("euler", "karras"),
    General("euler", "normal"),
    General("euler", "sgm_uniform"),
    General("euler", "beta"),
    _low("dpmpp_2m"),
    General("dpmpp_2m", "karras"),
    General("dpmpp_2m", "exponential"),
    General("dpmpp_2m", "sgm_uniform"),
    General("dpmpp_2m", "beta"),
    _low("uni_pc_bh2", {"order": 1}),
    _low("uni_pc_bh2", {"order": 2}),
    General("uni_pc_bh2", "karras"),
    General("uni_pc_bh2", "sgm_uniform"),
    General("deis", "karras"),
    General("adams_pc", "fitted"),
)


def serving(levels: NoiseLevels) -> Iterator[General]:
    """Those for a model with these levels."""
    return (way for way in GENERAL if way.serves(levels))
