"""Patches of one evaluation on the UNets of Automatic1111 (ldm and sgm), which know no patches: hooks for all of it.

They stand on the layers themselves, so whatever else takes the place of a forward (sd-webui-controlnet, attention
optimisations, hypernetworks) acts as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...core.patch import Block, EvaluationPatch, Hooks, InputPatch, ResidualPatch, SkipPatch
from ..control_hooks import Place, add_residual, attention_of, hooked, keep, of_kind, stage

Options = dict[str, Any]


@contextmanager
def grafted(
    unet: Any, patches: Sequence[EvaluationPatch], hooks: Hooks, options: Mapping[str, Any]
) -> Iterator[Options]:
    """The patches in the UNet while inside; the options as they are."""
    with ExitStack() as stack:
        stack.enter_context(hooked(unet, patches, hooks))
        for place in dict.fromkeys((p.block, p.index, p.attention) for p in of_kind(InputPatch, patches)):
            _add_inputs(stack, attention_of(unet, place), place, hooks)
        if of_kind(ResidualPatch, patches):
            _add_residuals(stack, unet, hooks)
        if of_kind((ResidualPatch, SkipPatch), patches):
            _add_skips(stack, unet, hooks)
        yield dict(options)


def _add_residuals(stack: ExitStack, unet: Any, hooks: Hooks) -> None:
    for number in range(len(unet.input_blocks)):
        add_residual(stack, unet, ("input", number), hooks)
    add_residual(stack, unet, ("middle", 0), hooks)


def _add_skips(stack: ExitStack, unet: Any, hooks: Hooks) -> None:
    """What enters an output block is [x, skip], side by side; how wide the skip is, its input block has shown."""
    widths: list[int] = []

    def seen(module: nn.Module, args: Any, output: Tensor) -> None:
        widths.append(output.shape[1])

    def changer(block: Block) -> Any:
        def change(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            width = widths.pop()
            x, skip = args[0][:, :-width], args[0][:, -width:]
            x, skip = hooks.entering(block, x, hooks.residual(block, skip))
            return torch.cat([x, skip], dim=1), *args[1:]

        return change

    for number in range(len(unet.input_blocks)):
        keep(stack, stage(unet, ("input", number))[-1].register_forward_hook(seen))
        first = stage(unet, ("output", number))[0]
        keep(stack, first.register_forward_pre_hook(changer(("output", number))))


def _add_inputs(stack: ExitStack, attention: Any, place: Place, hooks: Hooks) -> None:
    """Changes of what an attention projects: x and context as it is called, the values where they differ."""
    values: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        x = args[0] if args else named["x"]
        context = args[1] if len(args) > 1 else named.get("context")
        source = x if context is None else context
        q, k, v = x, source, source
        for change in hooks.projected(*place):  # type: ignore[arg-type]
            q, k, v = change(q, k, v)
        values[:] = [v] if v is not k else []
        rest = {name: value for name, value in named.items() if name not in ("x", "context")}
        return (q, k, *args[2:]), rest

    def project(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (values.pop(), *args[1:]) if values else args

    keep(stack, attention.register_forward_pre_hook(enter, with_kwargs=True))
    keep(stack, attention.to_v.register_forward_pre_hook(project))
