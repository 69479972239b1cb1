"""An explicit, ordered list of named things: names and aliases unique, unchanged when adding fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from .errors import OptionError, nearest


class Named(Protocol):
    """What a registry keeps: a name, how people are shown it, and other names it answers to."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


Spec = TypeVar("Spec", bound=Named)


def fold(name: str) -> str:
    """The spelling names are compared in: `DPM++ 2M`, `dpmpp-2m` and `dpmpp_2m` are one name."""
    return "_".join(str(name).strip().lower().replace("++", "pp").replace("-", " ").replace("_", " ").split())


class Registry(Generic[Spec]):
    """Specs in the order they were added, found by name, label or alias.

    Args:
        kind: what one entry is, for messages ("sampler").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._specs: dict[str, Spec] = {}
        self._owners: dict[str, str] = {}

    def add(self, spec: Spec) -> Spec:
        """Append `spec`. Raises OptionError naming the clash, leaving the registry as it was."""
        names = {fold(name) for name in (spec.name, spec.label, *spec.aliases)}
        for name in sorted(names):
            if name in self._owners:
                raise OptionError(
                    f"{self.kind} name {name!r} of {spec.name!r} is already taken by {self._owners[name]!r}",
                    todo="choose another name or alias",
                )
        self._specs[spec.name] = spec
        self._owners.update(dict.fromkeys(names, spec.name))
        return spec

    def __getitem__(self, name: str) -> Spec:
        """The spec called `name`. Raises OptionError with the nearest names."""
        owner = self._owners.get(fold(name))
        if owner is None:
            raise OptionError(f"unknown {self.kind} {name!r}", todo=nearest(name, self._owners))
        return self._specs[owner]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and fold(name) in self._owners

    def __iter__(self) -> Iterator[Spec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def names(self) -> list[str]:
        """The names, without aliases, in the order of registration."""
        return list(self._specs)
