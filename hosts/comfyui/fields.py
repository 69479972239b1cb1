"""Options as a node's widgets, and widgets' values as options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...samplers.spec import Option, Value

Field = tuple[Any, dict[str, Any]]
BOUNDLESS = 1e9  # what a widget shows for infinity, which JSON does not have


def field_of(option: Option) -> Field:
    """The widget of an option: its range, default and words."""
    told = {"tooltip": option.help}
    if option.choices:
        return list(option.choices), {"default": option.default, **told}
    if isinstance(option.default, str):
        return "STRING", {"default": option.default, "tooltip": f"{option.help}: {option.expected}"}
    kind = "INT" if isinstance(option.default, int) else "FLOAT"
    number = int if kind == "INT" else float
    ends = {"min": number(_shown(option.low)), "max": number(_shown(option.high))}
    shown = {"default": number(_shown(option.default)), **ends}
    return kind, shown | ({} if kind == "INT" else {"step": _step(option), "round": False}) | told


def _shown(value: Any) -> float:
    return min(max(value, -BOUNDLESS), BOUNDLESS)


def _step(option: Option) -> float:
    """A hundredth, or less where the default or the lower end is small."""
    smallest = min((abs(v) for v in (option.default, option.low) if isinstance(v, float) and v), default=1.0)
    return 10.0 ** min(math.floor(math.log10(smallest)) - 1, -2) if smallest < 1.0 else 0.01


def fields_of(options: Sequence[Option]) -> dict[str, Field]:
    """A widget for each option, by name."""
    return {option.name: field_of(option) for option in options}


def values_of(options: Sequence[Option], widgets: Mapping[str, Any]) -> dict[str, Value]:
    """Checked options from widgets; what no widget gives keeps its default. Raises OptionError out of range."""
    return {o.name: o.check(_meant(widgets[o.name]), o.name) for o in options if o.name in widgets}


def _meant(value: Any) -> Any:
    if isinstance(value, float) and abs(value) >= BOUNDLESS:
        return math.copysign(math.inf, value)
    return value
