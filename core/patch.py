"""What an adapter asks of a model: change a weight, add a residual, or add to an attention output.

Adapters speak only these three kinds; the runner's networks and each host apply them. Blocks carry the LDM names
that every host uses:

- ``("input", n)``: the activations that leave input block n (its skip connection included), as T2I-Adapters do;
- ``("middle", 0)``: the activations that leave the middle block;
- ``("output", n)``: the skip connection that enters output block n, as ControlNets do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Block = tuple[Literal["input", "middle", "output"], int]
Attention = Literal["attn1", "attn2"]


@dataclass(frozen=True)
class StepInfo:
    """Where in a run one model evaluation stands; sigma is the sampler's, in Python floats (never on a device)."""

    sigma: float = 0.0
    step: int = 0
    steps: int = 1
    branches: tuple[Literal["cond", "uncond"], ...] = ()  # one entry for each equal part of the batch


class Delta(Protocol):
    """The change one adapter makes to one weight."""

    def delta(self, weight: Tensor) -> Tensor:
        """The difference to add to ``weight`` at strength 1, in the weight's shape."""
        ...


@dataclass(frozen=True)
class WeightPatch:
    """weight[key] + strength * delta.delta(weight[key])."""

    key: str
    delta: Delta
    strength: float = 1.0


@dataclass(frozen=True)
class ResidualPatch:
    """Tensors added at blocks; ``residuals`` is asked once for each model evaluation."""

    residuals: Callable[[StepInfo], Mapping[Block, Tensor]]


@dataclass(frozen=True)
class AttentionPatch:
    """A term added to one attention's output before its output projection.

    ``extra(q, k, v, info)`` receives the projections [batch, tokens, channels] and answers in q's shape.
    """

    block: Block
    index: int
    attention: Attention
    extra: Callable[[Tensor, Tensor, Tensor, StepInfo], Tensor]


Patch = WeightPatch | ResidualPatch | AttentionPatch


class Adapter(Protocol):
    """Anything that can be put into a model and taken out again."""

    def patches(self) -> Iterable[Patch]: ...


Extra = Callable[[Tensor, Tensor, Tensor], Tensor]


class Hooks:
    """All patches of one model evaluation, looked up by place."""

    def __init__(self, patches: Sequence[ResidualPatch | AttentionPatch], info: StepInfo) -> None:
        self._residuals: dict[Block, Tensor] = {}
        self._attention: dict[tuple[Block, int, Attention], list[Extra]] = {}
        for patch in patches:
            if isinstance(patch, ResidualPatch):
                self._add_residuals(patch.residuals(info))
            else:
                self._add_attention(patch, info)

    def _add_residuals(self, residuals: Mapping[Block, Tensor]) -> None:
        for block, value in residuals.items():
            seen = self._residuals.get(block)
            self._residuals[block] = value if seen is None else seen + value

    def _add_attention(self, patch: AttentionPatch, info: StepInfo) -> None:
        place = (patch.block, patch.index, patch.attention)
        self._attention.setdefault(place, []).append(lambda q, k, v: patch.extra(q, k, v, info))

    def residual(self, block: Block, x: Tensor) -> Tensor:
        """x plus what the patches add at this block."""
        extra = self._residuals.get(block)
        return x if extra is None else x + extra.to(x.dtype)

    def attention(self, block: Block, index: int, attention: Attention) -> Sequence[Extra]:
        """The terms to add at one attention, in the order the patches were given."""
        return self._attention.get((block, index, attention), ())
