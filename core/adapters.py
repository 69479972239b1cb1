"""What acts on a run's evaluations: every adapter's patches, of those that act now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import nn

from .patch import EvaluationPatch, Hooks, StepInfo


class Acting(Protocol):
    """One adapter in one run."""

    def active(self, info: StepInfo) -> bool:
        """Whether it changes anything in this evaluation; where it does not it costs nothing."""
        ...

    def patches(self) -> Iterable[EvaluationPatch]:
        """Its patches, the same objects for the whole run."""
        ...


def networks(adapters: Sequence[Acting]) -> list[nn.Module]:
    """Those that adapters run beside the model's own."""
    found = [getattr(adapter, "network", None) for adapter in adapters]
    return [network for network in found if isinstance(network, nn.Module)]


def patches_of(adapters: Sequence[Acting]) -> Callable[[StepInfo], list[EvaluationPatch]]:
    """The patches of those that act in one evaluation."""
    given = [(adapter, list(adapter.patches())) for adapter in adapters]

    def patches(info: StepInfo) -> list[EvaluationPatch]:
        return [patch for adapter, patches in given if adapter.active(info) for patch in patches]

    return patches


def with_more(hooks: Hooks | None, patches: Sequence[EvaluationPatch], info: StepInfo) -> Hooks | None:
    """The hooks of one evaluation with more patches in it."""
    if patches:
        hooks = hooks or Hooks((), info)
        hooks.add(patches)
    return hooks


def hooks_of(adapters: Sequence[Acting]) -> Callable[[StepInfo], Hooks | None]:
    """The same as Hooks; None where no adapter acts."""
    patches = patches_of(adapters)

    def hooks(info: StepInfo) -> Hooks | None:
        acting = patches(info)
        return Hooks(acting, info) if acting else None

    return hooks
