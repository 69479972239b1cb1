"""Where a scheduler stands: walks of its method, begun and led on by calls from outside, one an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..samplers.drive import Walk, find_sampler
from ..samplers.finite import FiniteWatch
from ..samplers.spec import Noise, Run, SamplerSpec, resolve
from ..samplers.stepper import take
from .given import time
from .plan import Plan

STANDING = ("due", "_start", "_given", "_values", "_watch")


class Walker:
    """Leads a method through the evaluations of a plan, in any order that it can be led.

    A method none of whose steps knows of another (`alone`) may be asked for any step at any time. Any other begins
    where the caller begins and is then led in order; called for where it began, or after its last step, it begins anew.

    Args:
        resume: the method of a run that begins after the plan's first step; None is the plan's own.

    Attributes:
        due: the evaluation that comes next; None before the first and after the last.
    """

    def __init__(
        self, plan: Plan, noise: Noise, alone: bool, resume: tuple[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.plan, self.noise, self.alone = plan, noise, alone
        self.resume = resume
        self.due: int | None = None
        self._start = 0
        self._walk: Walk | None = None
        self._given: Mapping[str, Any] | None = None
        self._values: dict[str, Any] = {}
        self._watch = FiniteWatch(len(plan.sigmas) - 1)

    def standing(self) -> dict[str, Any]:
        """What a copy needs to go on from here. OptionError where the method under way keeps a memory of its own."""
        if self._walk is not None:
            raise OptionError(
                f"a copy in the middle of a run of {self.plan.spec.name}, which remembers its earlier evaluations",
                todo="copy before the run or after it, or call set_timesteps first",
            )
        return {name: value for name, value in self.__dict__.items() if name in STANDING}

    def stand(self, standing: Mapping[str, Any]) -> None:
        self.__dict__.update(standing)

    def locate(self, timestep: Any, begin: int | None) -> int:
        """The evaluation that a call with this timestep is for.

        An entry of `plan.timesteps`, wherever that lives, is known by its place in memory; a number or a tensor on the
        CPU by its value. Of any other tensor the value is asked only where a run begins: reading it would make
        each step wait for the device, and so the run's own order is gone by.

        Raises OptionError for a timestep that is none of the plan's.
        """
        if self.due is None and begin is not None:
            return begin
        if isinstance(timestep, torch.Tensor):
            if _same_memory(timestep, self.plan.timesteps):
                return int(timestep.storage_offset())
            if self.due is not None and timestep.device.type != "cpu":
                return self.due
        return self.plan.find(time(timestep), self.due or 0)

    def advance(self, index: int, x: Tensor, denoised: Tensor, given: Mapping[str, Any]) -> Tensor:
        """The x of the next evaluation, or the finished one.

        Args:
            x: evaluated at `index`, [b, ...], as the caller has it now.
            given: options of this step; those of a run that is led in order cannot change on the way.
        """
        if index != self.due:
            self._watch = FiniteWatch(len(self.plan.sigmas) - 1)
        asked = self.plan.evaluations[index]
        self._watch.see(denoised, asked.step, asked.sigma)
        x = self._step(index, x, denoised, given)
        self.due = index + 1
        if self.due == len(self.plan.evaluations):
            self.due, self._walk = None, None
            self._watch.finish()
        return x

    def _step(self, index: int, x: Tensor, denoised: Tensor, given: Mapping[str, Any]) -> Tensor:
        if self._idle(index):
            self._walk = None
            return x
        if not torch.is_grad_enabled() or (self.alone and self.plan.spec.evaluations == 1):
            return self._answered(index, x, denoised, given)
        with torch.no_grad():
            return self._answered(index, x.detach(), denoised, given)

    def _answered(self, index: int, x: Tensor, denoised: Tensor, given: Mapping[str, Any]) -> Tensor:
        walk = self._led_on(index, x, given)
        if walk is None:
            # a tensor object of the walk's own, which `take` may point at other memory; a graph stays whole
            walk = self._begin(index, x if torch.is_grad_enabled() else x.detach(), given)
        walk.answer(denoised)
        if walk.asked is None:
            self._walk = None
            assert walk.result is not None  # a method returns its x
            return walk.result
        return walk.asked[0].detach()

    def _idle(self, index: int) -> bool:
        """The last evaluation of a step whose first was left out, where a method resumes after it."""
        if self.resume is None or self.due is not None or self.plan.evaluations[index].first:
            return False
        after = self.plan.evaluations[index + 1 : index + 2]
        return bool(after) and after[0].first

    def _led_on(self, index: int, x: Tensor, given: Mapping[str, Any]) -> Walk | None:
        """The walk under way with x as the caller has it; None where a new one is to begin."""
        walk = self._walk
        if walk is None or walk.asked is None or index != self.due:
            return None
        if given != self._given:
            names = ", ".join(name for name in given if given[name] != (self._given or {}).get(name))
            raise OptionError(f"{names} changed on the way", "step", todo="give every step the same")
        take(walk.asked[0], x)
        return walk

    def _begin(self, index: int, x: Tensor, given: Mapping[str, Any]) -> Walk:
        plan, asked = self.plan, self.plan.evaluations[index]
        if not asked.first or not (
            self.alone or self.due is None or index == self._start or self._walk is None
        ):
            due = "the first of a step" if self.due is None else f"{plan.times[self.due]:g}"
            raise OptionError(
                f"timestep {plan.times[index]:g} out of turn", "step", due, "follow scheduler.timesteps"
            )
        if given != self._given:
            self._given, self._values = (
                dict(given),
                resolve(plan.spec.options, given, f"sampler {plan.spec.name}"),
            )
        self._start = index
        if self.alone:
            pair = plan.sigmas[asked.step : asked.step + 2]
            self._walk = Walk(plan.spec, Run(pair, plan.space.levels, self.noise, self._values), x)
        else:
            spec, options = self._method(index, given)
            run = spec.run(plan.sigmas[asked.step :], plan.space.levels, self.noise, options)
            self._walk = Walk(spec, run, x)
        return self._walk

    def _method(self, index: int, given: Mapping[str, Any]) -> tuple[SamplerSpec, Mapping[str, Any]]:
        plan = self.plan
        if self.resume is None or index == 0:
            return plan.spec, given
        left, steps = len(plan.evaluations) - index, len(plan.sigmas) - 1 - plan.evaluations[index].step
        if left != steps:
            raise OptionError(
                f"a run that begins at timestep {plan.times[index]:g}",
                f"sampler {plan.spec.name}",
                todo="begin at the first timestep, or set skip_prk_steps",
            )
        return find_sampler(self.resume[0]), self.resume[1]


def _same_memory(entry: Tensor, table: Tensor) -> bool:
    if entry.device != table.device or entry.dtype != table.dtype:
        return False
    return entry.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()
