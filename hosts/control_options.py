"""Patches of one evaluation in hosts with ComfyUI's `transformer_options`: ComfyUI itself, Forge, reForge, Forge Neo.

What other packs put there stays and acts; ours is folded in beside it, in a copy for this one evaluation, so there is
nothing to take out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..core.patch import EvaluationPatch, Hooks, InputPatch, ResidualPatch, SkipPatch
from .control_hooks import add_residual, hooked, of_kind

Options = dict[str, Any]


@contextmanager
def grafted(
    unet: nn.Module, patches: Sequence[EvaluationPatch], hooks: Hooks, options: Mapping[str, Any]
) -> Iterator[Options]:
    """The options to call the UNet with while inside."""
    with ExitStack() as stack:
        stack.enter_context(hooked(unet, patches, hooks))
        if of_kind(ResidualPatch, patches):  # no list of the host's stands behind the middle block
            add_residual(stack, unet, ("middle", 0), hooks)
        yield folded(patches, hooks, options)


def folded(patches: Sequence[EvaluationPatch], hooks: Hooks, options: Mapping[str, Any]) -> Options:
    """`options` with changes of what enters after those of others, and residuals before what others make of them.

    That is where the host adds its own ControlNets' residuals, so that FreeU and its like see both.
    """
    lists = dict(options.get("patches", {}))
    for name in sorted({patch.attention for patch in of_kind(InputPatch, patches)}):
        lists[f"{name}_patch"] = [*lists.get(f"{name}_patch", ()), _projecting(name, hooks)]
    if of_kind(ResidualPatch, patches):
        for name, patch in (
            ("input_block_patch", _entering(hooks)),
            ("output_block_patch", _skipping(hooks)),
        ):
            lists[name] = [patch, *lists.get(name, ())]
    if of_kind(SkipPatch, patches):
        lists["output_block_patch"] = [*lists.get("output_block_patch", ()), _joining(hooks)]
    return {**options, "patches": lists}


def _projecting(attention: Any, hooks: Hooks) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def patch(q: Tensor, k: Tensor, v: Tensor, told: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        place = told["block"], told.get("block_index", 0), attention
        for change in hooks.projected(*place):
            q, k, v = change(q, k, v)
        return q, k, v

    return patch


def _entering(hooks: Hooks) -> Callable[..., Tensor]:
    def patch(h: Tensor, told: Mapping[str, Any]) -> Tensor:
        return hooks.residual(told["block"], h)

    return patch


def _skipping(hooks: Hooks) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def patch(h: Tensor, skip: Tensor | None, told: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        return h, skip if skip is None else hooks.residual(told["block"], skip)

    return patch


def _joining(hooks: Hooks) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def patch(h: Tensor, skip: Tensor | None, told: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        return (h, skip) if skip is None else hooks.entering(told["block"], h, skip)

    return patch
