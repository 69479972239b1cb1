"""`sigmagraft samplers auto`: what the sampler `auto` stands for, and the measurements it goes by."""

from __future__ import annotations

from typing import Any

from .table import show

HEAD = ("evaluations", "way", "error", "next best", "error")


def auto_rows() -> list[dict[str, Any]]:
    """Each measured case with its ways, in JSON's types."""
    from ...samplers.auto_table import CASES, TABLE

    return [
        {"flow": flow, "guided": guided, "measured": CASES[flow, guided], "ways": rows}
        for (flow, guided), rows in TABLE.items()
    ]


def auto_lines() -> str:
    """The tables in words, one for each kind of model and guidance."""
    return "\n\n".join(f"{_heading(case)}\n{show([HEAD, *_cells(case['ways'])])}" for case in auto_rows())


def _heading(case: dict[str, Any]) -> str:
    kind = "rectified flow" if case["flow"] else "diffusion"
    return f"{kind}, {'guided' if case['guided'] else 'without guidance'} (measured on {case['measured']})"


def _cells(ways: dict[int, tuple[str, float, str, float]]) -> list[tuple[str, ...]]:
    return [(str(n), *(str(cell) for cell in row)) for n, row in ways.items()]
