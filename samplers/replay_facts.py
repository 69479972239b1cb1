"""What a stopped walk says of itself, and whether another is the same."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..core.errors import OptionError
from .levels import NoiseLevels
from .noise import ImageNoise
from .noise_types import NOISE_TYPES
from .spec import Noise, Run, SamplerSpec

Facts = dict[str, Any]


def facts_of(sampler: SamplerSpec, run: Run) -> Facts:
    """Everything that decides a walk, in JSON's types."""
    values = ((option, getattr(run, option.name)) for option in sampler.options)
    return {
        "sampler": sampler.name,
        "options": {option.name: value for option, value in values if value != option.default},
        "sigmas": list(run.sigmas),
        "levels": _levels(run.levels),
        "noise": getattr(run._noise, "description", None),
    }


def _levels(levels: NoiseLevels) -> Facts:
    table = levels.sigmas
    places = [round(i * (len(table) - 1) / 4) for i in range(5)]
    return {"kind": type(levels).__name__, "count": len(table), "some": [table[i] for i in places]}


def agree(recorded: Facts, now: Facts) -> None:
    """Raises OptionError naming what differs; numbers may differ as two machines round."""
    for name, value in now.items():
        if not _same(recorded[name], value):
            raise OptionError(
                f"{name} of this walk: {_short(value)}",
                expected=f"{_short(recorded[name])}, as it was recorded",
                todo="go on with what it was begun with",
            )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    return a == b


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:80]} ... {text[-30:]}"


def noise_of(facts: Facts, x: Tensor, levels: NoiseLevels) -> Noise | None:
    """The noise source of a recording, as it was at the start. OptionError where it cannot be made again."""
    told = facts["noise"]
    if told is None:
        return None
    if told.get("device", x.device.type) != x.device.type:
        raise OptionError(f"noise of this {x.device.type}", expected=f"{told['device']}, as it was recorded")
    make = {"kind": told.get("kind", "cpu"), "skip": told.get("skip", 0)}
    images = ImageNoise(told["seeds"], x.shape[1:], device=x.device, dtype=x.dtype, **make)
    spec = NOISE_TYPES[told["type"]]
    return spec.open(images, facts["sigmas"], levels, told.get("options", {}))
