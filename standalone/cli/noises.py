"""`sigmagraft noises [NAME]`: every registered type of step noise, or one, and its options."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .parser import Parser
from .table import dump, option_json, option_lines, show

if TYPE_CHECKING:
    from ...samplers.noise_types import NoiseType

HEAD = ("name", "label", "also called", "paper")


def run(argv: Sequence[str]) -> int:
    """Print the table, all about one, or JSON."""
    parser = Parser("noises", "The types of noise a sampler adds to its steps: --noise-type NAME.")
    parser.add_argument("name", nargs="*", metavar="NAME", help="one of them")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv, words="name")
    from ...samplers import NOISE_TYPES

    name = getattr(args, "name", "")
    specs = [NOISE_TYPES[name]] if name else list(NOISE_TYPES)
    if hasattr(args, "json"):
        dump([_as_json(spec) for spec in specs])
        return 0
    print(show([HEAD, *((spec.name, spec.label, ", ".join(spec.aliases), spec.paper) for spec in specs)]))
    if name:
        print("\n" + textwrap.fill(" ".join(specs[0].doc.split()), 110))
    if lines := [line for spec in specs for line in option_lines(spec.name, spec.options)]:
        print("\noptions:", *lines, sep="\n")
    return 0


def _as_json(spec: NoiseType) -> dict[str, Any]:
    told = {name: getattr(spec, name) for name in ("name", "label", "doc", "paper")}
    return told | {"aliases": list(spec.aliases), "options": [option_json(option) for option in spec.options]}
