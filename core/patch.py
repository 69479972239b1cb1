"""What an adapter asks of a model: change a weight, or add to or change what flows at a block or an attention.

Adapters speak only these kinds; the runner's networks and each host apply them. Blocks carry the LDM names that every
host uses:

- ``("input", n)``: the activations that leave input block n (its skip connection included), as T2I-Adapters do;
- ``("middle", 0)``: the activations that leave the middle block;
- ``("output", n)``: the skip connection that enters output block n, as ControlNets do; for a BlockPatch the
  activations that leave it, for a SkipPatch those that enter it and the skip connection.

A BlockPatch may act inside its block instead, after the first ResNet and its transformer: before an output block
resamples, before the middle block's second ResNet. There AnimateDiff's attention over frames stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Block = tuple[Literal["input", "middle", "output"], int]
Attention = Literal["attn1", "attn2"]
Branch = Literal["cond", "uncond"]


@dataclass(frozen=True)
class Inputs:
    """What the network is given: scaled x [b, c, h, w], timesteps [b], context [b, n, width], vector [b, adm]."""

    x: Tensor
    timesteps: Tensor
    context: Tensor
    vector: Tensor | None = None


@dataclass(frozen=True)
class StepInfo:
    """Where in a run one model evaluation stands; sigma is the sampler's, in Python floats (never on a device)."""

    sigma: float = 0.0
    step: int = 0
    steps: int = 1
    branches: tuple[Branch, ...] = ()  # one entry for each equal part of the batch
    inputs: Inputs | None = None
    rows: tuple[int, ...] = ()  # which images of the run each part holds, where these are not all of them


def rows_of(x: Tensor, rows: Sequence[int], dim: int = 0) -> Tensor:
    """These rows of x; a view where they follow each other, for a list of them makes a device wait."""
    first, count = rows[0], len(rows)
    if list(rows) == list(range(first, first + count)):
        return x.narrow(dim, first, count)
    return x.index_select(dim, torch.tensor(rows, device=x.device))


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


@dataclass(frozen=True)
class InputPatch:
    """A change to what one attention projects.

    ``change(q, k, v, info)`` receives the tokens [batch, tokens, channels] that become queries, keys and values and
    answers three like them; keys and values may become more, both as many.
    """

    block: Block
    index: int
    attention: Attention
    change: Callable[[Tensor, Tensor, Tensor, StepInfo], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class BlockPatch:
    """A change to the activations [batch, channels, h, w] that leave a block, before residuals are added there.

    ``change(x, info)`` answers in x's shape. ``inside``: after the block's first ResNet and its transformer.
    """

    block: Block
    change: Callable[[Tensor, StepInfo], Tensor]
    inside: bool = False


@dataclass(frozen=True)
class OutputPatch:
    """A change to what one attention makes of its projections, before terms are added and it is projected out.

    ``change(out, q, k, v, info)`` answers in out's shape [batch, tokens, channels].
    """

    block: Block
    index: int
    attention: Attention
    change: Callable[[Tensor, Tensor, Tensor, Tensor, StepInfo], Tensor]


@dataclass(frozen=True)
class SkipPatch:
    """A change to what enters an output block: ``change(x, skip, info)`` answers (x, skip) in their shapes.

    Residuals are in both by then.
    """

    block: Block
    change: Callable[[Tensor, Tensor, StepInfo], tuple[Tensor, Tensor]]


EvaluationPatch = ResidualPatch | AttentionPatch | InputPatch | BlockPatch | OutputPatch | SkipPatch
Patch = WeightPatch | EvaluationPatch


class Adapter(Protocol):
    """Anything that can be put into a model and taken out again."""

    def patches(self) -> Iterable[Patch]: ...


Extra = Callable[[Tensor, Tensor, Tensor], Tensor]
Change = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Remake = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_Place = tuple[Block, int, Attention]


class Hooks:
    """All patches of one model evaluation, looked up by place."""

    def __init__(self, patches: Sequence[EvaluationPatch], info: StepInfo) -> None:
        self._info = info
        self._residuals: dict[Block, Tensor] = {}
        self._extras: dict[_Place, list[AttentionPatch]] = {}
        self._changes: dict[_Place, list[InputPatch]] = {}
        self._blocks: dict[tuple[Block, bool], list[BlockPatch]] = {}
        self._outputs: dict[_Place, list[OutputPatch]] = {}
        self._skips: dict[Block, list[SkipPatch]] = {}
        self.add(patches)

    def add(self, patches: Sequence[EvaluationPatch]) -> None:
        """More patches, after those there are."""
        for patch in patches:
            self._add(patch)

    def _add(self, patch: EvaluationPatch) -> None:
        if isinstance(patch, ResidualPatch):
            self._add_residuals(patch.residuals(self._info))
        elif isinstance(patch, AttentionPatch):
            self._extras.setdefault((patch.block, patch.index, patch.attention), []).append(patch)
        elif isinstance(patch, InputPatch):
            self._changes.setdefault((patch.block, patch.index, patch.attention), []).append(patch)
        elif isinstance(patch, OutputPatch):
            self._outputs.setdefault((patch.block, patch.index, patch.attention), []).append(patch)
        elif isinstance(patch, SkipPatch):
            self._skips.setdefault(patch.block, []).append(patch)
        else:
            self._blocks.setdefault((patch.block, patch.inside), []).append(patch)

    def _add_residuals(self, residuals: Mapping[Block, Tensor]) -> None:
        for block, value in residuals.items():
            seen = self._residuals.get(block)
            self._residuals[block] = value if seen is None else seen + value

    def residual(self, block: Block, x: Tensor) -> Tensor:
        """x plus what the patches add at this block."""
        extra = self._residuals.get(block)
        return x if extra is None else x + extra.to(x.dtype)

    def changed(self, block: Block, x: Tensor, inside: bool = False) -> Tensor:
        """x after every change to what leaves this block (or stands inside it), in the order the patches were given."""
        for patch in self._blocks.get((block, inside), ()):
            x = patch.change(x, self._info)
        return x

    def entering(self, block: Block, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """x and its skip connection after every change to what enters this output block."""
        for patch in self._skips.get(block, ()):
            x, skip = patch.change(x, skip, self._info)
        return x, skip

    def made(self, block: Block, index: int, attention: Attention) -> Sequence[Remake]:
        """The changes to what one attention makes, in the order the patches were given."""
        found = self._outputs.get((block, index, attention), ())
        return [partial(_remade, patch.change, self._info) for patch in found]

    def attention(self, block: Block, index: int, attention: Attention) -> Sequence[Extra]:
        """The terms to add at one attention, in the order the patches were given."""
        found = self._extras.get((block, index, attention), ())
        return [partial(_told, patch.extra, self._info) for patch in found]

    def projected(self, block: Block, index: int, attention: Attention) -> Sequence[Change]:
        """The changes to what one attention projects, in the order the patches were given."""
        found = self._changes.get((block, index, attention), ())
        return [partial(_told, patch.change, self._info) for patch in found]


def _told(function: Callable[..., Any], info: StepInfo, q: Tensor, k: Tensor, v: Tensor) -> Any:
    return function(q, k, v, info)


def _remade(function: Callable[..., Tensor], info: StepInfo, *tensors: Tensor) -> Tensor:
    return function(*tensors, info)
