"""Rows in aligned columns, and the same as JSON."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any


def show(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells under each other, the first being the head; the last column is not padded."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)


def option_lines(owner: str, options: Sequence[Any], after: str = "") -> list[str]:
    """One line for each option: owner:name=default, its range and what it does; cut to a terminal's width."""
    owner += ":" if owner else ""
    lines = [
        f"  {owner}{option.name}={option.default}  ({option.expected})  {option.help}{after}".rstrip()
        for option in options
    ]
    if not sys.stdout.isatty():  # a file or another program gets all of it
        return lines
    width = shutil.get_terminal_size((120, 24)).columns
    return [line if len(line) <= width else line[: width - 3] + "..." for line in lines]


def option_json(option: Any) -> dict[str, Any]:
    """An option for a program. JSON has no infinity: null is "no limit", a default is the word that is taken, "inf"."""
    infinite = (math.inf, -math.inf)
    values: dict[str, Any] = {
        name: getattr(option, name) for name in ("name", "default", "low", "high", "help")
    }
    values |= {name: None for name in ("low", "high") if values[name] in infinite}
    values |= {"default": str(option.default)} if option.default in infinite else {}
    return values | {"choices": list(option.choices)}


def dump(value: Any) -> None:
    """Print as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
