"""How strongly the prompt pulls at each sigma of a walk: constant, CFG++, or only within an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError, nearest
from ..guidance import GUIDANCES, Chosen, read_guidances
from ..samplers.guidance_weight import Interval, Weight, plus_plus, within
from ..samplers.levels import NoiseLevels
from ..samplers.spec import SamplerSpec

if TYPE_CHECKING:
    from .request import Request

BASES = ("cfg", "cfg++")
USUAL = {"cfg": 7.0, "cfg++": 0.6}  # cfg++ at 0.6 pulls about as strongly as cfg at 7
RANGES = {"cfg": (-100.0, 1000.0), "cfg++": (0.0, 3.0)}


def split(guidance: str | Sequence[str]) -> tuple[str, list[Chosen]]:
    """(cfg or cfg++, the other guidances named). Raises OptionError for a name or option that is none."""
    texts = [guidance] if isinstance(guidance, str) else list(guidance)
    bases = [text for text in texts if text in BASES]
    if len(set(bases)) > 1:
        raise OptionError("guidance cfg and cfg++", expected="one of the two")
    for text in texts:
        name = text.partition(":")[0]
        if text not in BASES and name not in GUIDANCES:
            raise OptionError(
                f"guidance {name!r}", "--guidance", todo=nearest(name, (*BASES, *GUIDANCES.names()))
            )
    return (bases or ["cfg"])[0], read_guidances(text for text in texts if text not in BASES)


def check_guidance(guidance: str | Sequence[str], cfg: float | None, interval: str | None) -> float:
    """cfg, or what is usual where it is None. Raises OptionError for what cannot work."""
    guidance, _ = split(guidance)
    cfg = USUAL[guidance] if cfg is None else cfg
    low, high = RANGES[guidance]
    if isinstance(cfg, bool) or not low <= cfg <= high:
        todo = None if guidance == "cfg" else "0.6 pulls about as strongly as 7 does with guidance cfg"
        raise OptionError(f"cfg {cfg}", expected=f"{low:g} to {high:g} with guidance {guidance}", todo=todo)
    if interval is not None:
        Interval.read(interval)
    return cfg


def weight_of(
    request: Request,
    sampler: SamplerSpec,
    sigmas: Sequence[float],
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
    begin: int = 0,
) -> float | Weight:
    """What a request's guidance multiplies cond - uncond by: a number, or one for each sigma of the walk.

    `options` are the sampler's, `begin` is how many evaluations of the walk are made already.
    """
    assert request.cfg is not None  # `resolve` has filled it in
    scale = request.cfg
    if request.base == "cfg" and (request.cfg_interval is None or scale in (0.0, 1.0)):
        return scale
    if request.base == "cfg++":
        weight = plus_plus(scale, sampler, sigmas, levels, options, begin)
    else:
        weight = lambda sigma: scale  # noqa: E731
    if request.cfg_interval is None:
        return weight
    return within(weight, Interval.read(request.cfg_interval), sigmas)
