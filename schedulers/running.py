"""A scheduler with a run laid out: its timesteps, its sigmas, and where it stands."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..samplers.drive import find_sampler
from . import given as checked
from .basis import Basis
from .draw import StepNoise
from .grid import Grid
from .plan import Plan
from .walker import Walker

# made anew from the config by a copy
DERIVED = ("_space", "_training_table")


class Running(Basis):
    """set_timesteps and what it decides.

    Attributes:
        num_inference_steps: None before `set_timesteps`.
        begin_index: what `set_begin_index` said; None leaves it to the first timestep.
    """

    num_inference_steps: int | None = None
    begin_index: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._noise = StepNoise()
        self._walker: Walker | None = None
        self._timesteps: Any = None
        self._options: dict[str, Any] = {}

    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, **given: Any) -> None:
        """Lay out a run of so many steps, or at the `timesteps` or `sigmas` given. OptionError for what cannot be."""
        if num_inference_steps is not None:
            num_inference_steps = checked.steps(num_inference_steps)
        given = {name: value for name, value in given.items() if value is not None}
        self._lay_out(self.row.grid(self._own, self._training, num_inference_steps, **given), device)
        self.num_inference_steps = self._plan.grid.steps

    def _lay_out(self, grid: Grid, device: Any = None) -> None:
        row = self.row
        spec = row.sampler if isinstance(row.sampler, str) else row.sampler(self._own)
        self._options = row.options(self._own, grid, self._space)
        plan = Plan(find_sampler(spec), self._space, grid, self._options, row, device)
        self._walker = Walker(plan, self._noise, row.alone, row.resume)
        self._timesteps, self.begin_index = plan.timesteps, None

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: the config, the places of the run, and where it stands.

        Raises OptionError in the middle of a step, or of a run whose method remembers earlier ones.
        """
        state = {name: value for name, value in self.__dict__.items() if name not in DERIVED}
        walker = state.pop("_walker")
        if walker is not None:
            state["_laid"] = walker.plan.grid, walker.plan.timesteps.device, walker.standing()
            if self._timesteps is walker.plan.timesteps:
                del state["_timesteps"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        grid, device, standing = state.pop("_laid", (None, None, None))
        self.__dict__.update(_walker=None, **state)
        if grid is None:
            return
        self._lay_out(grid, device)
        self.__dict__.update(state)  # begin_index, and timesteps that were put in place of the plan's
        self._running.stand(standing)

    @property
    def _running(self) -> Walker:
        """The run; where nobody laid one out, over every timestep of training, if the class is used so."""
        if self._walker is None:
            if self.row.initial is None:
                where, todo = type(self).__name__, "call set_timesteps(num_inference_steps) first"
                raise OptionError("no timesteps", where, todo=todo)
            self._lay_out(self.row.initial(self._own, self._training))
        assert self._walker is not None  # made above
        return self._walker

    @property
    def _plan(self) -> Plan:
        return self._running.plan

    @property
    def laid(self) -> tuple[Plan, dict[str, Any]]:
        """The run that `set_timesteps` laid out, and the options of its sampler."""
        return self._plan, dict(self._options)

    @property
    def timesteps(self) -> Tensor:
        """What the network is told, for each of its evaluations, on the device of `set_timesteps`."""
        if self._timesteps is None:
            if self.row.initial is None:
                return torch.arange(self._own.num_train_timesteps - 1, -1, -1)
            self._timesteps = self._plan.timesteps
        return self._timesteps

    @timesteps.setter
    def timesteps(self, value: Tensor) -> None:
        self._timesteps = value

    @property
    def sigmas(self) -> Tensor:
        """The noise-to-signal ratio at each evaluation and at the end (rectified flow: sigma), float32 on the CPU.

        Before `set_timesteps` those of training, ascending; AttributeError where the class goes by timesteps alone.
        """
        if self._walker is None and self.row.initial is None:
            if self.row.table:
                raise AttributeError(f"{type(self).__name__} has no sigmas before set_timesteps")
            return torch.tensor(self._trained.ratios, dtype=torch.float32)
        return self._plan.places

    @property
    def init_noise_sigma(self) -> float:
        """What unit noise is multiplied by to be the first sample."""
        return self.row.start(self._own, lambda: max(self._plan.grid.ratios))

    @property
    def step_index(self) -> int | None:
        """The number of the evaluation that comes next; None before a run and after it."""
        return None if self._walker is None else self._walker.due

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The number in `timesteps` that the next run begins with, whatever its first timestep."""
        self.begin_index = begin_index

    def index_for_timestep(self, timestep: Any, schedule_timesteps: Tensor | None = None) -> int:
        """The place of a timestep in `timesteps`. OptionError where it is not among them."""
        return self._plan.find(checked.time(timestep), None)
