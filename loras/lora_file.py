"""What an adapter file holds, before any model is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .delta import Delta
from .dora import DoRA


class Unused(NamedTuple):
    """A tensor that changes nothing, why, and the name that may have been meant."""

    key: str
    reason: str
    nearest: str | None = None


@dataclass(frozen=True)
class Part:
    """One module of a file: the changes it makes, by parameter, and the names of the tensors they were read from."""

    stem: str
    deltas: list[tuple[str, Delta]]
    keys: list[str]
    alpha: float | None = None

    @property
    def families(self) -> list[str]:
        """Of each change; DoRA names what it normalises."""
        return [f"DoRA of {d.inner.family}" if isinstance(d, DoRA) else d.family for _, d in self.deltas]


@dataclass(frozen=True)
class LoraFile:
    """An adapter file read and checked: parts by module name, textual inversions it brings, keys nobody knows."""

    path: Path
    parts: dict[str, Part]
    metadata: Mapping[str, str] = field(default_factory=dict)
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    unknown: tuple[Unused, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def families(self) -> Counter[str]:
        """How many changes each family makes."""
        return Counter(family for part in self.parts.values() for family in part.families)

    @property
    def ranks(self) -> Counter[int]:
        """How many changes have each rank."""
        found = (delta.rank for part in self.parts.values() for _, delta in part.deltas)
        return Counter(rank for rank in found if rank is not None)

    @property
    def alphas(self) -> Counter[float]:
        """How many modules have each alpha."""
        return Counter(part.alpha for part in self.parts.values() if part.alpha is not None)
