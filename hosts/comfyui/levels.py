"""The levels of a ComfyUI model, read off its `model_sampling` object, patches and shifts included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from ...samplers.levels import TIMESTEPS, FlowLevels, NoiseLevels
from ..levels import levels_from_table
from . import comfy


def sampling_of(model: Any) -> Any:
    """The `model_sampling` in force for what a sampler function is given as its model."""
    return model.inner_model.inner_model.model_sampling


def levels_of(model: Any, sigmas: list[float]) -> NoiseLevels:
    """What the sigmas of the model of a sampler function mean."""
    return sampling_levels(sampling_of(model))


def sampling_levels(sampling: Any) -> NoiseLevels:
    """The levels of a `model_sampling`: rectified flow where it is CONST with sigmas to 1, else variance exploding."""
    kinds = comfy("model_sampling")
    if (
        isinstance(sampling, kinds.CONST) and float(sampling.sigma_max) <= 1.0
    ):  # one is CONST with SD's sigmas
        return _flow(sampling)
    if isinstance(sampling, kinds.ModelSamplingContinuousV):
        return levels_from_table(_even_in_time(sampling))
    if isinstance(sampling, kinds.ModelSamplingContinuousEDM):
        lowest, highest = float(sampling.sigma_min), float(sampling.sigma_max)
        return NoiseLevels.edm(lowest, highest, float(sampling.sigma_data))
    return levels_from_table(_rising(sampling.sigmas.tolist()))


def _rising(table: list[float]) -> list[float]:
    """The table without its repetitions: Stable Cascade's stands still at both ends."""
    return [table[0], *(after for before, after in pairwise(table) if after > before)]


def noise_scale(sampling: Any) -> float:
    """What the noise of this model is multiplied by: some flow models start from another deviation than 1."""
    kinds = comfy("model_sampling")
    return float(getattr(sampling, "noise_scale", 1.0)) if isinstance(sampling, kinds.CONST) else 1.0


def _flow(sampling: Any) -> NoiseLevels:
    table = sampling.sigmas.tolist()
    # a table of another length (Flux's) begins at another sigma than FlowLevels, and schedules go by it
    for shift in _shifts(sampling) if len(table) == TIMESTEPS else ():
        levels = levels_from_table(table, is_flow=True, shift=shift)
        if isinstance(levels, FlowLevels):
            return levels
    return levels_from_table(table, is_flow=True)


def _shifts(sampling: Any) -> Iterator[float]:
    """SD3 and its like say the shift itself, Flux its logarithm."""
    shift = getattr(sampling, "shift", None)
    if isinstance(shift, int | float):
        yield from (value for value in (float(shift), math.exp(min(shift, 50.0))) if value > 0.0)


def _even_in_time(sampling: Any) -> list[float]:
    first, last = (float(sampling.timestep(sigma)) for sigma in (sampling.sigma_min, sampling.sigma_max))
    return sampling.sigma(torch.linspace(first, last, TIMESTEPS, dtype=torch.float64)).tolist()
