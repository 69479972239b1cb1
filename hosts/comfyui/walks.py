"""Restart around a sampler that holds its own loop: walk by walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...samplers.noise import ImageNoise
from ...samplers.restart_plan import Segment, automatic, plan
from ..noise import image_seeds
from .function import Seeds
from .levels import levels_of, noise_scale, sampling_of

SALT = 0x9E3779B97F4A7C15  # apart from every seed that a person counts up to


class Walks:
    """Any sampler function, called for one walk after the other; noise takes x up to where the next begins."""

    def __init__(
        self, function: Callable[..., Tensor], segments: Sequence[Segment] | None, s_noise: float
    ) -> None:
        self.function, self.segments, self.s_noise = function, segments, s_noise
        self.__name__ = f"restart_{getattr(function, '__name__', 'sampler')}"

    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        **options: Any,
    ) -> Tensor:
        """The walks of the plan, which has as many steps as `sigmas`."""
        if len(sigmas) < 2:
            return x
        levels = levels_of(model, [])
        told = levels.check(sigmas.tolist())
        walks, done = self._plan(told, levels), 0
        extra = dict(extra_args or {})
        noise = _noise_between(x, extra.get("seed"), noise_scale(sampling_of(model)) * self.s_noise)
        for number, walk in enumerate(walks):
            if number:
                scale, std = levels.renoise(walks[number - 1][-1], walk[0])
                x = x * scale + noise() * std
                extra["seed"] = _apart(extra.get("seed"), number)
            part = torch.tensor(walk, dtype=sigmas.dtype, device=sigmas.device)
            x = self.function(
                model,
                x,
                part,
                extra_args=extra,
                callback=_counting(callback, done),
                disable=disable,
                **options,
            )
            done += len(walk) - 1
        return x

    def _plan(self, sigmas: list[float], levels: Any) -> list[list[float]]:
        if self.s_noise == 0.0:
            return [sigmas]
        if self.segments is None:
            return plan(sigmas, automatic(len(sigmas) - 1), levels, by_rule=True)
        return plan(sigmas, self.segments, levels)


def _noise_between(x: Tensor, seed: int | None, scale: float) -> Callable[[], Tensor]:
    salted = _apart(seed, 0)
    seeds = getattr(salted, "images", ()) or image_seeds(salted, len(x))
    images = ImageNoise(seeds, x.shape[1:], device=x.device, dtype=x.dtype)
    return lambda: images.next() * scale


def _apart(seed: int | None, walk: int) -> Seeds:
    """Another seed, since a sampler that starts anew would draw the noise of the first walk again."""
    images = [_mixed(image, walk) for image in getattr(seed, "images", ())]
    return Seeds.of(_mixed(int(seed or 0), walk), images)


def _mixed(seed: int, walk: int) -> int:
    return (seed ^ (SALT * (walk + 1))) % 2**63


def _counting(
    callback: Callable[[dict[str, Any]], Any] | None, done: int
) -> Callable[[dict[str, Any]], Any] | None:
    return callback and (lambda state: callback({**state, "i": state["i"] + done}))
