"""Options that a registered thing declares: a number in a range or one of some words, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import OptionError, nearest

Value = float | int | str


@dataclass(frozen=True)
class Option:
    """A number (between `low` and `high`, ends included) or one of `choices`, with its default.

    The default's type is the option's type: int, float or str. Text that reads as the type is taken.
    """

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    help: str = ""
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "an integer" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def check(self, value: Any, owner: str) -> Value:
        """`value` as this option's type. Raises OptionError outside the range."""
        if self.choices:
            if value in self.choices:
                return value
        elif (number := self._number(value)) is not None and self.low <= number <= self.high:
            return number
        raise OptionError(f"option {self.name}={value!r}", owner, self.expected)

    def _number(self, value: Any) -> float | int | None:
        if isinstance(value, bool):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if isinstance(self.default, int):
            return int(number) if number.is_integer() else None
        return number


def resolve(declared: Sequence[Option], given: Mapping[str, Any] | None, owner: str) -> dict[str, Value]:
    """Every declared option with its value. Raises OptionError for an unknown name or a bad value."""
    values: dict[str, Value] = {option.name: option.default for option in declared}
    by_name = {option.name: option for option in declared}
    if given is not None and not isinstance(given, Mapping):
        raise OptionError(f"options {given!r:.80}", owner, "a dictionary of names and values")
    for name, value in (given or {}).items():
        if name not in by_name:
            todo = nearest(name, by_name) if by_name else "it takes none"
            raise OptionError(f"unknown option {name!r}", owner, todo=todo)
        values[name] = by_name[name].check(value, owner)
    return values
