"""`sigmagraft noises`: every registered type of step noise and its options."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import Parser
from .table import dump, option_json, option_lines, show

HEAD = ("name", "label", "also called", "paper")


def run(argv: Sequence[str]) -> int:
    """Print the table, or JSON."""
    parser = Parser("noises", "The types of noise a sampler adds to its steps: --noise-type NAME.")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv)
    from ...samplers import NOISE_TYPES

    if hasattr(args, "json"):
        names = ("name", "label", "doc", "paper")
        rows = [{name: getattr(spec, name) for name in names} for spec in NOISE_TYPES]
        for row, spec in zip(rows, NOISE_TYPES, strict=True):
            row |= {
                "aliases": list(spec.aliases),
                "options": [option_json(option) for option in spec.options],
            }
        dump(rows)
        return 0
    rows = [(spec.name, spec.label, ", ".join(spec.aliases), spec.paper) for spec in NOISE_TYPES]
    print(show([HEAD, *rows]))
    print("\noptions:")
    print("\n".join(line for spec in NOISE_TYPES for line in option_lines(spec.name, spec.options)))
    return 0
