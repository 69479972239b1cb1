"""A run laid out: which evaluation comes at which timestep, at which sigma, in which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..samplers.spec import SamplerSpec
from ..samplers.stepper import rehearse
from .grid import Grid
from .row import Row
from .space import Space

# relative length of a step between two places that are the same
LITTLE = 1e-9


class Evaluation(NamedTuple):
    """One call of the model.

    Attributes:
        sigma: of the walk.
        step: number of the step.
        time: what the network is told.
        first: whether its step begins with it.
    """

    sigma: float
    step: int
    time: float
    first: bool


class Plan:
    """The evaluations of a run of `spec` over `grid`.

    Attributes:
        sigmas: of the walk. A step of no length at either end, as some configs have it, is one of 1e-9.
        evaluations: in order.
        timesteps: their times on the device, int64 where the row says so.
        times: the same as Python numbers.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        space: Space,
        grid: Grid,
        options: Mapping[str, Any],
        row: Row,
        device: Any = None,
    ) -> None:
        if grid.steps < 1:
            raise OptionError("no steps", "set_timesteps", expected="1 or more")
        self.spec, self.space, self.grid = spec, space, grid
        self.sigmas = [space.level(ratio) for ratio in grid.ratios]
        if self.sigmas[-1] == self.sigmas[-2]:
            rises = self.sigmas[0] < self.sigmas[-1]
            self.sigmas[-1] *= 1 + LITTLE if rises else 1 - LITTLE
        elif self.sigmas[0] == self.sigmas[1]:
            self.sigmas[0] *= 1 - LITTLE
        self.evaluations = self._evaluations(options, row.inner)
        times = [evaluation.time for evaluation in self.evaluations]
        dtype = torch.int64 if row.whole else torch.float32
        told = torch.tensor(times, dtype=torch.float64).to(dtype)
        # what the entries of `timesteps` are as numbers, so that none is ever read off a device
        self.times: list[float] = told.tolist()
        self.timesteps = told.to(device)

    def _evaluations(self, options: Mapping[str, Any], inner: bool) -> list[Evaluation]:
        found, before = [], -1
        for sigma, step in rehearse(self.spec, self.sigmas, self.space.levels, options):
            places = (step,) if inner else (step, step + 1)
            found.append(Evaluation(sigma, step, self._time(sigma, places), step != before))
            before = step
        return found

    def _time(self, sigma: float, places: Sequence[int]) -> float:
        """The grid's own time for its places; of any other level the training time."""
        times = self.grid.times
        for place in places:
            if place < len(times) and sigma == self.sigmas[place]:
                return times[place]
        return self.space.levels.timestep(sigma)

    @cached_property
    def places(self) -> Tensor:
        """The ratio at every evaluation and at the end, float32 on the CPU: `scheduler.sigmas`."""
        ratios = [self.space.ratio(evaluation.sigma) for evaluation in self.evaluations]
        return torch.tensor([*ratios, self.grid.ratios[-1]], dtype=torch.float32)

    def find(self, time: float, near: int | None) -> int:
        """The evaluation of this timestep: `near` if it is that one, else the one that begins a step there.

        Raises OptionError for a time that is not in the plan.
        """
        if near is not None and near < len(self.times) and self.times[near] == time:
            return near
        found = [index for index, each in enumerate(self.times) if each == time]
        found = found or [
            i for i, each in enumerate(self.times) if abs(each - time) <= 1e-4 * max(1.0, abs(each))
        ]
        if not found:
            low, high = min(self.times), max(self.times)
            raise OptionError(
                f"timestep {time:g} is none of the {len(self.times)} from {high:g} to {low:g}",
                todo="step through scheduler.timesteps",
            )
        return next((index for index in found if self.evaluations[index].first), found[0])
