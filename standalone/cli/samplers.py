"""`sigmagraft samplers`: every registered sampler, what it declares, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .parser import Parser
from .table import dump, option_json, option_lines, show

if TYPE_CHECKING:
    from ...samplers import SamplerSpec

HEAD = ("name", "label", "order", "evaluations", "stochastic", "flow", "schedule", "paper")


def run(argv: Sequence[str]) -> int:
    """Print the table, or JSON."""
    parser = Parser("samplers", "The samplers: --sampler NAME or NAME:option=value,...")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv)
    from ...samplers import SAMPLERS

    if hasattr(args, "json"):
        dump([as_json(spec) for spec in SAMPLERS])
        return 0
    print(show([HEAD, *(row(spec) for spec in SAMPLERS)]))
    lines = [line for spec in SAMPLERS for line in option_lines(spec.name, spec.options)]
    print(
        "\norder: of convergence; evaluations: of the model, a step; flow: for rectified flow too\n\noptions:"
    )
    print("\n".join(lines))
    return 0


def row(spec: SamplerSpec) -> tuple[str, ...]:
    """The cells of one sampler, as HEAD."""
    yes = {True: "yes", False: "no"}
    numbers = (f"{spec.order:g}", f"{spec.evaluations:g}")
    return (
        spec.name,
        spec.label,
        *numbers,
        yes[spec.stochastic],
        yes[spec.flow],
        spec.default_schedule,
        spec.paper,
    )


def as_json(spec: SamplerSpec) -> dict[str, Any]:
    """Everything a sampler declares."""
    names = ("name", "label", "order", "evaluations", "stochastic", "flow", "default_schedule", "paper")
    values = {name: getattr(spec, name) for name in names}
    return values | {
        "aliases": list(spec.aliases),
        "options": [option_json(option) for option in spec.options],
    }
