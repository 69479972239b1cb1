"""Several adapters -> one LoRA. Methods are PEFT's: linear and cat on factors, the others on whole changes, cut by SVD.

linear: sum of factors; cat: sum of changes, ranks add up; svd: sum of changes, cut; ties (arXiv:2306.01708), dare_*
(arXiv:2311.03099) and magnitude_prune leave out values of each change before they are summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import FileError, OptionError
from .delta import Delta, Shape, matrix
from .full import Full
from .lora_file import Part
from .lowrank import LowRank
from .measure import dense_change
from .resize import Keep, factored, low_rank
from .save import Placed
from .targets import Module

FACTORED = ("linear", "cat")
PRUNED = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
METHODS = (*FACTORED, "svd", *PRUNED)
Weighted = tuple[Delta, float]


@dataclass(frozen=True)
class Source:
    """An adapter to merge: its file (for errors), its parts, its weight."""

    path: Path
    parts: Sequence[Placed]
    weight: float


@dataclass(frozen=True)
class Merge:
    """``density``: the fraction of values that pruning keeps; ``weight_of``: patch key -> a model's weight, if any.

    ``seed`` is of dare's random choice, the same for every merge.
    """

    method: str
    keep: Keep
    density: float = 0.5
    seed: int = 0
    weight_of: Callable[[str], Tensor | None] = lambda key: None

    def merged(self, sources: Sequence[Source]) -> list[Placed]:
        """One LoRA of all of them. FileError where a family does not allow the method, or needs the model."""
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(self.seed)
        try:
            return [self._module(module, own) for module, own in _by_module(sources)]
        finally:
            torch.random.set_rng_state(torch_state)

    def _module(self, module: Module, own: dict[str, list[tuple[Source, Delta]]]) -> Placed:
        deltas = [(name, self._parameter(module, name, changes)) for name, changes in own.items()]
        ranks = [delta.rank for _, delta in deltas if delta.rank is not None]
        return Placed(module, Part(module.path, deltas, [], float(ranks[0]) if ranks else None))

    def _parameter(self, module: Module, name: str, changes: list[tuple[Source, Delta]]) -> Delta:
        shape = module.shapes[name]
        weighted = [(delta, source.weight) for source, delta in changes]
        low = all(isinstance(delta, LowRank) and delta.mid is None for delta, _ in weighted)
        if self.method in FACTORED and len(shape) > 1:
            if not low:
                odd = next((s, d) for s, d in changes if not isinstance(d, LowRank) or d.mid is not None)
                raise FileError(
                    f"{module.path}: {odd[1].family} has no factors to merge by {self.method}",
                    odd[0].path,
                    "LoRA without Tucker cores",
                    "merge by svd",
                )
            return _added(weighted, changes[0][0].path) if self.method == "linear" else _joined(weighted)
        if low and self.method == "svd":
            return factored(*_scaled(weighted), self.keep)
        dense = [self._dense(module, name, shape, source, delta) for source, delta in changes]
        total = self._total(dense, [weight for _, weight in weighted])
        return low_rank(total, self.keep) if len(shape) > 1 else Full(total)

    def _dense(self, module: Module, name: str, shape: Shape, source: Source, delta: Delta) -> Tensor:
        change = dense_change(delta, shape, self.weight_of(module.key(name)))
        if change is None:
            what = f"{module.path}: what {delta.family} changes depends on the weights"
            raise FileError(what, source.path, todo="name the model with --model")
        return change

    def _total(self, changes: list[Tensor], weights: list[float]) -> Tensor:
        if self.method not in PRUNED:
            return sum(
                (change * weight for change, weight in zip(changes, weights, strict=True)), torch.zeros(())
            )
        try:
            from peft.utils import merge_utils  # seconds to import
        except ImportError as error:
            raise OptionError(f"{self.method} needs peft", todo="install it: pip install peft") from error
        return getattr(merge_utils, self.method)(changes, torch.tensor(weights), self.density)


def _by_module(sources: Sequence[Source]) -> list[tuple[Module, dict[str, list[tuple[Source, Delta]]]]]:
    """Module -> parameter -> the changes of it, in the order of the sources."""
    found: dict[str, tuple[Module, dict[str, list[tuple[Source, Delta]]]]] = {}
    for source in sources:
        for module, part in source.parts:
            own = found.setdefault(module.key(""), (module, {}))[1]
            for name, delta in part.deltas:
                if name in module.shapes:
                    own.setdefault(name, []).append((source, delta))
    return [one for one in found.values() if one[1]]


def _factors(delta: Delta) -> tuple[Tensor, Tensor, float]:
    assert isinstance(delta, LowRank)
    like = torch.zeros(())
    return matrix(delta.up, like), matrix(delta.down, like), delta.scale


def _scaled(weighted: Sequence[Weighted]) -> tuple[list[Tensor], list[Tensor]]:
    """(ups times scale and weight, downs)."""
    found = [(*_factors(delta), weight) for delta, weight in weighted]
    return [up * (scale * weight) for up, _, scale, weight in found], [down for _, down, _, _ in found]


def _joined(weighted: Sequence[Weighted]) -> LowRank:
    ups, downs = _scaled(weighted)
    return LowRank(torch.cat(ups, 1), torch.cat(downs, 0))


def _added(weighted: Sequence[Weighted], path: Path) -> LowRank:
    """sum_i root(w_i) up_i and sum_i root(w_i) down_i, w with the scale in it: products mix, as PEFT's do."""
    ranks = {delta.rank for delta, _ in weighted}
    if len(ranks) > 1:
        given = " and ".join(map(str, sorted(rank or 0 for rank in ranks)))
        raise FileError(
            f"ranks {given} have no sum", path, "one rank in all for linear", "merge by cat or svd"
        )
    up, down = torch.zeros(()), torch.zeros(())
    for delta, weight in weighted:
        own_up, own_down, scale = _factors(delta)
        root = math.sqrt(abs(weight * scale))
        up = up + own_up * root
        down = down + own_down * math.copysign(root, weight * scale)
    return LowRank(up, down)
