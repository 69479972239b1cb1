"""`sigmagraft schedules`: every registered noise schedule and its options."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import Parser
from .table import dump, option_json, show


def run(argv: Sequence[str]) -> int:
    """Print the table, or JSON."""
    parser = Parser("schedules", "The noise schedules: --schedule NAME.")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv)
    from ...samplers import SAMPLERS, SCHEDULES

    users = {spec.name: [s.name for s in SAMPLERS if s.default_schedule == spec.name] for spec in SCHEDULES}
    if hasattr(args, "json"):
        names = ("name", "label", "paper")
        dump(
            [
                {name: getattr(spec, name) for name in names}
                | {"aliases": list(spec.aliases), "default_of": users[spec.name]}
                | {"options": [option_json(option) for option in spec.options]}
                for spec in SCHEDULES
            ]
        )
        return 0
    head = ("name", "label", "also called", "paper", "default of")
    rows = [
        (spec.name, spec.label, ", ".join(spec.aliases), spec.paper, ", ".join(users[spec.name]))
        for spec in SCHEDULES
    ]
    print(show([head, *rows]))
    return 0
