"""Levels for few steps, chosen by dynamic programming over a model's fine trajectories (after arXiv:2405.11326)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .process import Process


class Deviations:
    """What a single step of first order from one level of a fine walk to another misses the walk by.

    Attributes:
        cost: float64 [n, n], row i column j: RMS of the miss over that of x where it lands, summed over images.
    """

    def __init__(self, levels: Process, sigmas: Sequence[float]) -> None:
        self.levels, self.sigmas = levels, tuple(sigmas)
        self.cost = torch.zeros(len(sigmas), len(sigmas), dtype=torch.float64)
        self.images = 0

    def seeing(self) -> tuple[Callable[[Mapping[str, Any]], None], Callable[[Tensor], None]]:
        """A callback for `drive` along `sigmas`, and what is given the end of that walk."""
        states: list[Tensor] = []
        values: list[Tensor] = []

        def step(state: Mapping[str, Any]) -> None:
            states.append(state["x"])
            values.append(state["denoised"])

        return step, lambda end: self._add([*states, end], values)

    def _add(self, states: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        for i, (x, denoised) in enumerate(zip(states, values, strict=False)):
            for j in range(i + 1, len(states)):
                decay, gain = self.levels.exact(self.sigmas[i], self.sigmas[j])
                miss = (x * decay).add_(denoised, alpha=gain).sub_(states[j])
                size = math.hypot(self.levels.alpha(self.sigmas[j]), self.sigmas[j])
                self.cost[i, j] += miss.float().square().flatten(1).mean(1).sqrt().sum().item() / size
        self.images += len(states[0])

    def best(self, steps: int) -> list[float]:
        """The steps + 1 levels from the first to the last whose steps miss least in sum."""
        count = len(self.sigmas)
        costs = self.cost.masked_fill(torch.ones_like(self.cost).tril().bool(), math.inf)
        total, came = costs[0], []
        for _ in range(steps - 1):
            total, places = (total[:, None] + costs).min(0)
            came.append(places)
        path = [count - 1]
        for places in reversed(came):
            path.insert(0, int(places[path[0]]))
        return [self.sigmas[place] for place in (0, *path)]
