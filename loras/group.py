"""Everything a file says of one module, by role, handed out once: what nobody took is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from ..core.errors import FileError
from .delta import Delta
from .peft_config import PeftConfig


@dataclass
class Group:
    """The tensors under one module's name: ``roles`` role -> tensor, ``keys`` role -> the file's own key.

    ``config`` is what a PEFT or diffusers configuration says; where it is silent the tensors speak.
    """

    stem: str
    roles: dict[str, Tensor]
    keys: dict[str, str]
    path: Path
    config: PeftConfig | None = None
    taken: set[str] = field(default_factory=set)

    def has(self, *roles: str) -> bool:
        """Whether all these roles are there and not yet taken."""
        return all(role in self.roles and role not in self.taken for role in roles)

    def take(self, role: str) -> Tensor:
        """The tensor of a role, which must be there."""
        self.taken.add(role)
        return self.roles[role]

    def pop(self, role: str) -> Tensor | None:
        """The tensor of a role, or None."""
        return self.take(role) if role in self.roles else None

    def rename(self, role: str, other: str) -> None:
        """Gives a tensor the role that the tensors beside it, or a configuration, show it has."""
        self.roles[other], self.keys[other] = self.roles.pop(role), self.keys.pop(role)

    def left(self) -> list[str]:
        """The roles nobody took."""
        return [role for role in self.roles if role not in self.taken]

    def number(self, role: str) -> float | None:
        """A scalar role's value."""
        tensor = self.pop(role)
        if tensor is None:
            return None
        if tensor.numel() != 1:
            self.refuse(f"{self.keys[role]} has {tensor.numel()} values", "one number")
        return float(tensor.float())

    def scale(self, rank: int) -> float:
        """alpha / rank times the scalar; alpha absent is rank. FileError for rank 0 and alpha 0."""
        if rank < 1:
            self.refuse("its rank is 0", todo="train or save it again")
        alpha, scalar = self.number("alpha"), self.number("scalar")
        if alpha is None and self.config is not None and self.config.alpha_of(self.stem) is not None:
            return self.config.scale(self.stem, rank) * (1.0 if scalar is None else scalar)
        if alpha == 0.0:
            self.refuse(
                "its alpha is 0, so it would change nothing", "alpha above 0", "train or save it again"
            )
        return (1.0 if alpha is None else alpha / rank) * (1.0 if scalar is None else scalar)

    def refuse(self, what: str, expected: str | None = None, todo: str | None = None) -> NoReturn:
        """FileError that names the module."""
        raise FileError(f"{self.stem}: {what}", self.path, expected, todo)


@dataclass(frozen=True)
class Format:
    """A family of adapters: the roles that mark it, and what it makes of a group that has them.

    ``build`` answers parameter ("weight", "bias") -> Delta. A change of the weight may be normalised afterwards (DoRA).
    """

    name: str
    needs: tuple[str, ...]
    build: Callable[[Group], dict[str, Delta]]
