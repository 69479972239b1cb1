"""A registry on the command line: its table, one entry with what it does, its options, or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .parser import Parser
from .table import dump, option_json, option_lines, show

HEAD = ("name", "label", "also called", "paper")
Cells = Mapping[str, Callable[[Any], str]]


def run(
    argv: Sequence[str], command: str, description: str, load: Callable[[], Any], more: Cells | None = None
) -> int:
    """Print it. `load` gives the registry when it is needed; `more` are further columns by their heads."""
    parser = Parser(command, description)
    parser.add_argument("name", nargs="*", metavar="NAME", help="one of them")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv, words="name")
    registry, name, more = load(), getattr(args, "name", ""), more or {}
    specs = [registry[name]] if name else list(registry)
    if hasattr(args, "json"):
        dump([_as_json(spec) for spec in specs])
        return 0
    print(show([(*HEAD, *more), *(_row(spec, more) for spec in specs)]))
    if name:
        print("\n" + textwrap.fill(" ".join(specs[0].doc.split()), 110))
    if lines := [line for spec in specs for line in option_lines(spec.name, spec.options)]:
        print("\noptions:", *lines, sep="\n")
    return 0


def _row(spec: Any, more: Cells) -> Sequence[str]:
    return spec.name, spec.label, ", ".join(spec.aliases), spec.paper, *(cell(spec) for cell in more.values())


def _as_json(spec: Any) -> dict[str, Any]:
    told = {name: getattr(spec, name) for name in ("name", "label", "doc", "paper")}
    return told | {"aliases": list(spec.aliases), "options": [option_json(option) for option in spec.options]}
