"""Patches of one model evaluation on any UNet whose modules carry LDM's names, as PyTorch hooks that leave no trace.

What a host's own interface can say goes through that (`control_options.py`); this is the rest: terms of attentions and
what leaves a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..core.patch import AttentionPatch, Block, BlockPatch, EvaluationPatch, Hooks, OutputPatch

Place = tuple[Block, int, str]
_SIDES = {"input": "input_blocks", "output": "output_blocks"}


@contextmanager
def hooked(unet: nn.Module, patches: Sequence[EvaluationPatch], hooks: Hooks) -> Iterator[None]:
    """The attention terms and block changes among `patches`, which `hooks` looks up, while inside."""
    with ExitStack() as stack:
        remade = of_kind((OutputPatch, AttentionPatch), patches)
        for place in dict.fromkeys((p.block, p.index, p.attention) for p in remade):
            _add_terms(stack, unet, place, hooks)
        for block, inside in dict.fromkeys((p.block, p.inside) for p in of_kind(BlockPatch, patches)):
            _add_change(stack, stage(unet, block), block, inside, hooks)
        yield


def of_kind(kind: type | tuple[type, ...], patches: Iterable[EvaluationPatch]) -> list[Any]:
    """Those of one kind, or of several."""
    return [patch for patch in patches if isinstance(patch, kind)]


def stage(unet: nn.Module, block: Block) -> nn.Sequential:
    """The layers of a block, in order."""
    side, number = block
    return unet.middle_block if side == "middle" else getattr(unet, _SIDES[side])[number]  # type: ignore[return-value]


def attention_of(unet: nn.Module, place: Place) -> Any:
    """The attention at a place: to_q, to_k, to_v and to_out are its layers."""
    block, index, name = place
    transformer = next(layer for layer in stage(unet, block) if hasattr(layer, "transformer_blocks"))
    return getattr(transformer.transformer_blocks[index], name)  # type: ignore[index]


def keep(stack: ExitStack, handle: Any) -> None:
    """Takes a hook off again with the stack."""
    stack.callback(handle.remove)


def _add_terms(stack: ExitStack, unet: nn.Module, place: Place, hooks: Hooks) -> None:
    """What an attention made, remade, + sum of extra(q, k, v), where it enters the output projection."""
    attention, seen = attention_of(unet, place), {}

    def watch(name: str) -> Callable[..., None]:
        def kept(module: nn.Module, args: Any, output: Tensor) -> None:
            seen[name] = output

        return kept

    def add(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        q, k, v = (seen.pop(name) for name in "qkv")
        out = args[0]
        for remake in hooks.made(*place):  # type: ignore[arg-type]
            out = remake(out, q, k, v)
        for extra in hooks.attention(*place):  # type: ignore[arg-type]
            out = out + extra(q, k, v).to(out.dtype)
        return out, *args[1:]

    for name in "qkv":
        keep(stack, getattr(attention, f"to_{name}").register_forward_hook(watch(name)))
    keep(stack, attention.to_out[0].register_forward_pre_hook(add))


def _add_change(stack: ExitStack, layers: nn.Sequential, block: Block, inside: bool, hooks: Hooks) -> None:
    """What leaves a block, or what stands inside it after its first ResNet and transformer."""

    def change(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return hooks.changed(block, output, inside)

    keep(stack, layers[_inner(layers) - 1 if inside else -1].register_forward_hook(change))


def add_residual(stack: ExitStack, unet: nn.Module, block: Block, hooks: Hooks) -> None:
    """What leaves an input block or the middle one plus its residual; after changes, which come first."""

    def add(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return hooks.residual(block, output)

    keep(stack, stage(unet, block)[-1].register_forward_hook(add))


def _inner(layers: nn.Sequential) -> int:
    return 2 if len(layers) > 1 and hasattr(layers[1], "transformer_blocks") else 1
