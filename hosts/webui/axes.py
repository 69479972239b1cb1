"""Axes of the X/Y/Z plot: the fields of the accordion, and every numeric option of our samplers by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from modules import scripts

from ...samplers.noise_types import NOISE_TYPES
from ...samplers.spec import SAMPLERS
from .choice import AUTOMATIC

PREFIX = "[SigmaGraft] "
TEXTS = {
    "options": "Sampler options",
    "schedule_options": "Schedule options",
    "noise_type": "Step noise",
    "restarts": "Restarts",
    "hires_options": "Hires sampler options",
    "guidance": "Guidance",
}
Apply = Callable[[Any, Any, Any], None]


def add_axes() -> None:
    """Append our axes to the plot's list, where the plot is there and has none of them yet."""
    for grid in _grids():
        there = {option.label for option in grid.axis_options}
        for label, kind, name, choices in _rows():
            if PREFIX + label not in there:
                # options hold commas, which part the values of a field: those with choices are picked from a list
                grid.axis_options.append(grid.AxisOption(PREFIX + label, kind, _apply(name), choices=choices))


def remove_axes() -> None:
    """Leave the plot's list as it was without us."""
    for grid in _grids():
        grid.axis_options[:] = [o for o in grid.axis_options if not o.label.startswith(PREFIX)]


def _grids() -> list[Any]:
    modules = [data.module for data in scripts.scripts_data]
    return [module for module in modules if hasattr(module, "axis_options") and hasattr(module, "AxisOption")]


def _rows() -> Iterator[tuple[str, type, str, Callable[[], list[str]] | None]]:
    """(label, type, name, choices) of each axis."""
    for name, label in TEXTS.items():
        names = [AUTOMATIC, *NOISE_TYPES.names()]
        yield label, str, name, (lambda names=names: names) if name == "noise_type" else None
    for name, kind in numbers().items():
        yield name, kind, name, None


def numbers() -> dict[str, type]:
    """Every numeric option of a sampler of ours; whole numbers only where it is so for all of them."""
    found: dict[str, type] = {}
    for spec in SAMPLERS:
        for option in spec.options:
            if not option.choices:
                whole = isinstance(option.default, int) and found.get(option.name, int) is int
                found[option.name] = int if whole else float
    return found


def _apply(name: str) -> Apply:
    def apply(p: Any, x: Any, xs: Any) -> None:
        # the plot copies p shallowly for each cell: a dict of its own for each
        p.sigmagraft_axes = {**getattr(p, "sigmagraft_axes", {}), name: x}

    return apply
