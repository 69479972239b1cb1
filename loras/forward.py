"""Adapters kept apart from the weights: terms added to the outputs of layers, their strengths free to change.

Every change of a layer's weight or bias adds to its output what the same layer makes of the change alone. Low-rank
changes of all adapters on a layer are stacked into one pair, y + up (s o (down x)), padded to a common rank; others are
differences of the weight's size, summed before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .boft import BOFT
from .curve import Place
from .delta import Delta, Shape
from .lowrank import LowRank

STEP = 8  # ranks are padded up to a multiple, so that adapters of near ranks run in the same compiled code
Moving = Callable[[Place], float]


@dataclass(frozen=True)
class Term:
    """One change of one parameter: a fixed strength, and a factor that moves over the run."""

    delta: Delta
    strength: float = 1.0
    moving: Moving | None = None


@dataclass
class Prepared:
    """The hooks by layer, the factors that move (slot 0 stays 1) and the values they have now."""

    hooks: dict[nn.Module, _Layer] = field(default_factory=dict)
    slots: list[Moving | None] = field(default_factory=list)
    values: Tensor = field(default_factory=lambda: torch.ones(1))


class Forward:
    """The terms on one network. ``layers`` and ``original`` are by patch key, as in `Fused`.

    With ``keep_ranks`` no layer's rank shrinks again: after the largest adapter, every other runs in the same compiled
    code. With ``late`` factors are stacked when their layer first runs, since adapters are often exchanged or merged
    before that; compiled code has to find them stacked.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        original: Callable[[str], Tensor],
        keep_ranks: bool = False,
        late: bool = False,
    ) -> None:
        self.layers = layers
        self.original = original
        self.keep_ranks = keep_ranks
        self.late = late
        self._ranks: dict[nn.Module, int] = {}
        self._now = Prepared()

    def set(self, terms: Mapping[str, Sequence[Term]]) -> None:
        """Puts exactly these terms on their layers, by patch key; what is not named is taken off."""
        self.put(self.prepare(terms))

    @torch.inference_mode(False)
    @torch.no_grad()
    def prepare(self, terms: Mapping[str, Sequence[Term]]) -> Prepared:
        """Everything that can fail of `set`: nothing changes yet."""
        slots: list[Moving | None] = [None]
        made: dict[nn.Module, _Layer] = {}
        for key, own in terms.items():
            layer, parameter = self.layers[key], key.rpartition(".")[2]
            hook = made.setdefault(layer, _Layer(layer))
            weight = self.original(key).to(getattr(layer, parameter).device)
            for term in own:
                if term.moving not in slots:
                    slots.append(term.moving)
                hook.add(parameter, term, slots.index(term.moving), weight)
        values = torch.ones(len(slots))
        for layer, hook in made.items():
            rank = hook.finish(values, self._ranks.get(layer, 0))
            if self.keep_ranks:
                self._ranks[layer] = rank
            if not self.late:
                hook.stack()
        return Prepared(made, slots, values)

    def put(self, prepared: Prepared) -> bool:
        """Exchanges the terms for prepared ones; whether layers have terms now that had none."""
        more = not prepared.hooks.keys() <= self._now.hooks.keys()
        self.clear()
        for layer, hook in prepared.hooks.items():
            hook.handle = layer.register_forward_hook(hook)
        self._now = prepared
        return more

    def clear(self) -> None:
        """Takes all terms off."""
        for hook in self._now.hooks.values():
            if hook.handle is not None:
                hook.handle.remove()
        self._now = Prepared()

    @torch.inference_mode(False)
    @torch.no_grad()
    def at(self, place: Place) -> None:
        """Moves every strength to its value at this place of the run."""
        current = self._now
        if len(current.slots) < 2:
            return
        now = torch.tensor([1.0 if moving is None else moving(place) for moving in current.slots])
        if torch.equal(now, current.values):
            return
        current.values = now
        for hook in current.hooks.values():
            hook.move(now)


@dataclass
class _Dense:
    """A change as large as its parameter: computed once, or for BOFT, which is not linear in strength, each time."""

    parameter: str
    term: Term
    slot: int
    change: Tensor | None
    weight: Tensor

    def value(self, slots: Tensor) -> Tensor:
        strength = self.term.strength * float(slots[self.slot])
        if self.change is not None:
            return self.change * strength
        return self.term.delta.delta(self.weight, strength).to(self.weight.dtype)


@dataclass(eq=False)
class _Layer:
    """The hook on one layer."""

    layer: nn.Module
    handle: torch.utils.hooks.RemovableHandle | None = None
    waiting: list[LowRank] = field(default_factory=list)
    place: tuple[torch.device, torch.dtype] = torch.device("cpu"), torch.float32
    shape: Shape = ()
    scales: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    dense: list[_Dense] = field(default_factory=list)
    pair: tuple[Tensor, Tensor] | None = None
    scale: Tensor | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, parameter: str, term: Term, slot: int, weight: Tensor) -> None:
        delta = term.delta
        if (
            parameter == "weight"
            and isinstance(delta, LowRank)
            and (is_linear(self.layer) or isinstance(self.layer, nn.Conv2d))
        ):
            self.waiting.append(delta)
            self.place, self.shape = (weight.device, weight.dtype), tuple(weight.shape)
            self.scales += [delta.scale * term.strength] * delta.rank
            self.places += [slot] * delta.rank
            return
        change = None if isinstance(delta, BOFT) else delta.delta(weight).to(weight.dtype)
        self.dense.append(_Dense(parameter, term, slot, change, weight))

    def finish(self, slots: Tensor, least: int) -> int:
        """Pads the low-rank strengths to a rank of ``least`` or more; the rank."""
        rank = len(self.scales)
        padding = max(-rank % STEP, least - rank) if rank else 0
        self.scales += [0.0] * padding
        self.places += [0] * padding
        self.move(slots)
        return len(self.scales) or least

    @torch.inference_mode(False)  # what runs later may not be an inference tensor
    @torch.no_grad()
    def stack(self) -> None:
        """All low-rank changes as one pair of factors, padded."""
        if not self.waiting:
            return
        ups, downs = zip(*(_pair(delta, self.place, self.shape) for delta in self.waiting), strict=True)
        up, down = torch.cat(ups, dim=1), torch.cat(downs)
        padding = len(self.scales) - up.shape[1]
        up = F.pad(up, (0, padding)) if up.ndim == 2 else F.pad(up, (0, 0, 0, 0, 0, padding))
        down = F.pad(down, (0, 0) * (down.ndim - 1) + (0, padding))
        self.pair = up.contiguous(), down.contiguous()
        self.waiting = []

    def move(self, slots: Tensor) -> None:
        if self.scales:
            scale = (torch.tensor(self.scales) * slots[self.places]).to(*self.place)
            self.scale = scale if self.scale is None else self.scale.copy_(scale)
        for parameter in {item.parameter for item in self.dense}:
            first, *others = (item.value(slots) for item in self.dense if item.parameter == parameter)
            for value in others:
                first += value
            there = self.sums.get(parameter)
            self.sums[parameter] = first if there is None else there.copy_(first)

    def _follow(self, output: Tensor) -> None:
        """To where the network has been moved since, in its dtype."""
        place = (output.device, output.dtype)
        held = [*(self.pair or ()), *self.sums.values()]
        if any((value.device, value.dtype) != place for value in held):
            self._move_to(*place)

    @torch.inference_mode(False)  # what is written into later must not be an inference tensor
    @torch.no_grad()
    def _move_to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.place = device, dtype
        self.pair = self.pair and (self.pair[0].to(device, dtype), self.pair[1].to(device, dtype))
        self.scale = None if self.scale is None else self.scale.to(device, dtype)
        self.sums = {name: value.to(device, dtype) for name, value in self.sums.items()}

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0]
        if self.waiting:
            self.stack()
        self._follow(output)
        if self.pair is not None and self.scale is not None:
            output = output + _low_rank(layer, x, *self.pair, self.scale)
        if self.sums:
            output = output + apply_layer(layer, x, self.sums.get("weight"), self.sums.get("bias"))
        return output


def _pair(delta: LowRank, place: tuple[torch.device, torch.dtype], shape: Shape) -> tuple[Tensor, Tensor]:
    """up [out, r(, 1, 1)] and down [r, in(, kernel)] for a weight of this place, dtype and shape.

    A Tucker core goes into down.
    """
    device, dtype = place
    up, down = delta.up.to(device, torch.float32), delta.down.to(device, torch.float32)
    if delta.mid is not None:
        down = torch.einsum("mn...,ni->mi...", delta.mid.to(down), down.flatten(1))
    up, down = up.flatten(1), down.reshape(down.shape[0], *shape[1:])
    if len(shape) == 4:
        up = up[:, :, None, None]
    return up.to(dtype), down.to(dtype)


def _low_rank(layer: nn.Module, x: Tensor, up: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        inner = F.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]
        return F.conv2d(inner * scale[:, None, None], up)
    return F.linear(F.linear(x, down) * scale, up)


def apply_layer(layer: nn.Module, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """What a layer makes of x with these parameters instead of its own; one that is None counts as zero."""
    if weight is None:
        return _shaped_bias(layer, bias)
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]
    if is_linear(layer):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.Embedding):
        return F.embedding(x, weight)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    raise TypeError(f"no rule for a {type(layer).__name__}")


def _shaped_bias(layer: nn.Module, bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias[:, None, None] if isinstance(layer, (nn.Conv2d, nn.GroupNorm)) else bias


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear: torch's class, or one that hosts write beside it (Forge's)."""
    return isinstance(layer, nn.Linear) or (
        type(layer).__name__ == "Linear" and hasattr(layer, "in_features")
    )


def hookable(layer: nn.Module) -> bool:
    """Whether terms can be added to what a layer gives; parameters of others can only be merged."""
    return isinstance(layer, HOOKABLE) or is_linear(layer)


HOOKABLE = (nn.Linear, nn.Conv2d, nn.Embedding, nn.GroupNorm, nn.LayerNorm)
