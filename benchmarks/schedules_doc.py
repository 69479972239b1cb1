"""Writes the table of docs/schedules.md from the registry: python -m sigmagraft.benchmarks.schedules_doc"""

from __future__ import annotations

import re
from pathlib import Path

from sigmagraft.samplers import SCHEDULES, ScheduleSpec

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "schedules.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->"
HEAD = ("name", "as in", "what it is", "for", "options", "paper")


def table() -> str:
    """Every schedule, a row each, as Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, SCHEDULES)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def row(spec: ScheduleSpec) -> tuple[str, ...]:
    """One schedule, as HEAD."""
    what = (spec.make.__doc__ or "").strip().split("\n\n")[0]
    names = ", ".join(f"`{name}`" for name in (spec.name, *spec.other_names))
    options = ", ".join(f"{option.name}={option.default}" for option in spec.options)
    need = "" if spec.needs.text == "any model" else re.sub(r"^an? ", "", spec.needs.text)
    return names, ", ".join(spec.hosts), " ".join(what.split()).replace("|", "\\|"), need, options, spec.paper


def filled(text: str) -> str:
    """The document with its table renewed."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
