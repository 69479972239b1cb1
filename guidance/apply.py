"""Several guidances at once on one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.patch import EvaluationPatch, StepInfo
from .spec import Evaluation, Guidance, Setting
from .text import Chosen

_ROUNDING = 1e-4  # of a step
Pulled = Callable[
    [Tensor, Tensor], Tensor
]  # cond, uncond -> uncond + w (cond - uncond), or what takes its place


@dataclass(frozen=True)
class Kin:
    """A guidance of a run and the share of its steps in which it acts."""

    guidance: Guidance
    start: float = 0.0
    stop: float = 1.0

    def acts(self, step: float, steps: int) -> bool:
        """Whether it does at this step: from the first whole step of its share up to the last."""
        return int(self.start * steps) <= step + _ROUNDING and (
            self.stop >= 1.0 or step + _ROUNDING < int(self.stop * steps)
        )


@dataclass(frozen=True)
class Always:
    """A guidance that only changes the network, as an adapter that acts in every evaluation."""

    guidance: Guidance

    def active(self, info: StepInfo) -> bool:
        return True

    def patches(self) -> Sequence[EvaluationPatch]:
        return self.guidance.patches()


def open_kin(chosen: Iterable[Chosen], setting: Setting) -> list[Kin]:
    """Fresh objects for one run. OptionError where one does not fit the model."""
    kin = []
    for one in chosen:
        options = dict(one.options)
        start, stop = float(options.pop("start")), float(options.pop("stop"))
        kin.append(Kin(one.spec.make(setting, **options), start, stop))
    return kin


def acting(kin: Sequence[Kin], step: float, steps: int) -> list[Guidance]:
    """Those that act at a step, in the order they were given."""
    return [each.guidance for each in kin if each.acts(step, steps)]


def patches_of(guidances: Sequence[Guidance], first: bool) -> list[EvaluationPatch]:
    """The patches of the first evaluation, or of further ones."""
    found = [patch for each in guidances for patch in each.patches()]
    return found + [patch for each in guidances for patch in each.watching()] if first else found


def combine(guidances: Sequence[Guidance], at: Evaluation, other: Pulled | None = None) -> Tensor:
    """The network's output under guidance, cond + (w - 1) pull with pull = cond - uncond, as the kin change it.

    `other` weighs cond and uncond in place of that, as a host's own function does.
    """
    guided = at.cond if at.uncond is None else _pulled(guidances, at, at.uncond, other)
    for each in guidances:
        term = each.term(at)
        guided = guided if term is None else guided + term
    for each in guidances:
        guided = each.finish(at, guided)
    return guided


def _pulled(guidances: Sequence[Guidance], at: Evaluation, uncond: Tensor, other: Pulled | None) -> Tensor:
    for each in guidances:
        uncond = each.baseline(at, uncond)
    directed = [each for each in guidances if type(each).direction is not Guidance.direction]
    if not directed:
        return other(at.cond, uncond) if other else torch.lerp(uncond, at.cond, at.weight)
    pull = at.cond - uncond
    for each in directed:
        pull = each.direction(at, pull)
    return other(at.cond, at.cond - pull) if other else torch.add(at.cond, pull, alpha=at.weight - 1)
