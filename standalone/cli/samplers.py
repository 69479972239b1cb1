"""`sigmagraft samplers [NAME]`: every registered sampler by family, or all about one, and what each declares."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError, nearest
from .auto import auto_lines, auto_rows
from .parser import Parser
from .table import dump, option_json, option_lines, show

if TYPE_CHECKING:
    from ...samplers import Option, SamplerSpec

HEAD = ("name", "label", "order", "evaluations", "noise", "flow", "schedule", "paper", "options")
FIELDS = (
    "name",
    "label",
    "family",
    "order",
    "evaluations",
    "extra",
    "adaptive",
    "distilled",
    "stochastic",
    "noise_option",
    "brownian",
    "flow",
    "default_schedule",
    "paper",
)
NOTES = """
order: of convergence, 0 where no equation is solved; evaluations: of the model, a step; noise: always, or the option
that adds it (on: by default); flow: for rectified flow too. `sigmagraft samplers NAME` tells all about one,
`sigmagraft samplers k_diffusion` lists the functions of an installed k-diffusion, `sigmagraft samplers auto` what
--sampler auto stands for."""


def run(argv: Sequence[str]) -> int:
    """Print the table, one family or sampler of it, or JSON."""
    parser = Parser("samplers", "The samplers: --sampler NAME or NAME:option=value,...")
    parser.add_argument("name", nargs="*", metavar="NAME", help="a sampler or a family")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv, words="name")
    name = getattr(args, "name", "")
    if name.lower() == "auto":
        dump(auto_rows()) if hasattr(args, "json") else print(auto_lines())
        return 0
    specs, one = chosen(name)
    if hasattr(args, "json"):
        dump([as_json(spec) for spec in specs])
    elif one:
        print("\n".join(about(specs[0])))
    else:
        print("\n\n".join(family(name, members) for name, members in families(specs).items()))
        print(NOTES)
    return 0


def chosen(name: str) -> tuple[list[SamplerSpec], bool]:
    """The samplers meant by `name` ("" is all of ours), and whether it names a single one. OptionError otherwise."""
    from ...samplers import SAMPLERS, foreign, installed

    if not name:
        return list(SAMPLERS), False
    if name.lower().replace("-", "_") in ("k_diffusion", "k_diffusion:"):
        return [
            foreign.find_method(installed.PREFIX + known) for known in sorted(installed.functions())
        ], False
    if installed.split(name) or name in SAMPLERS:
        return [foreign.find_method(name)], True
    groups = {heading.lower(): members for heading, members in families(SAMPLERS).items()}
    if name.lower() in groups:
        return groups[name.lower()], False
    known = [*SAMPLERS.names(), *(spec.label for spec in SAMPLERS), *groups]
    raise OptionError(f"unknown sampler {name!r}", todo=nearest(name, known))


def families(specs: Iterable[SamplerSpec]) -> dict[str, list[SamplerSpec]]:
    """Samplers under their headings, in the order of registration."""
    found: dict[str, list[SamplerSpec]] = {}
    for spec in specs:
        found.setdefault(spec.family or "Others", []).append(spec)
    return found


def family(name: str, members: Sequence[SamplerSpec]) -> str:
    """A heading, a row for each sampler, and each option once with its range and who takes it."""
    users = takers(members)
    lines = [name, show([HEAD, *map(row, members)])]
    for option, names in users.items():
        alone = sum(other.name == option.name for other in users) == 1
        lines += option_lines("", [option], "" if alone else f" [{_some(names)}]")
    return "\n".join(lines)


def takers(members: Iterable[SamplerSpec]) -> dict[Option, list[str]]:
    """Each option once, with the names of the samplers that take it."""
    found: dict[Option, list[str]] = {}
    for spec in members:
        for option in spec.options:
            found.setdefault(option, []).append(spec.name)
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def row(spec: SamplerSpec) -> tuple[str, ...]:
    """The cells of one sampler, as HEAD."""
    return (
        spec.name,
        spec.label,
        "?" if _foreign(spec) else str(spec.order),
        _evaluations(spec),
        noise(spec),
        "yes" if spec.flow else "no",
        spec.default_schedule,
        spec.paper,
        ", ".join(option.name for option in spec.options),
    )


def _foreign(spec: SamplerSpec) -> bool:
    from ...samplers.foreign import ForeignSpec

    return isinstance(spec, ForeignSpec)


def _evaluations(spec: SamplerSpec) -> str:
    """A step; those at the start that are more or fewer after a sign."""
    if spec.adaptive or _foreign(spec):
        return "its own" if spec.adaptive else "?"
    return str(spec.evaluations) + (f"{spec.extra:+d}" if spec.extra else "")


def noise(spec: SamplerSpec) -> str:
    """When a sampler adds noise: never, always, by default (and by which option), or if an option says so."""
    if spec.noise_option is None:
        return "always" if spec.stochastic else "no"
    return f"{spec.noise_option}, on" if spec.stochastic else spec.noise_option


def about(spec: SamplerSpec) -> list[str]:
    """Everything about one sampler, line by line."""
    facts = {
        "also called": ", ".join(spec.aliases),
        "family": spec.family,
        "order": row(spec)[2],
        "evaluations": _evaluations(spec) + " a step",
        "adds noise": noise(spec) + (" (a Brownian path)" if spec.brownian else ""),
        "distilled": "for models distilled to few steps" if spec.distilled else "",
        "flow": "yes" if spec.flow else "no",
        "schedule": spec.default_schedule,
        "paper": spec.paper,
    }
    width = max(map(len, facts))
    lines = [f"{spec.name}: {spec.label}", *textwrap.wrap(_says(spec), 110), ""]
    lines += [f"{name.ljust(width)}  {value}" for name, value in facts.items() if value]
    if spec.options:
        lines += ["", "options:"]
    for option in spec.options:
        lines += [f"  {spec.name}:{option.name}={option.default}  ({option.expected})"]
        lines += textwrap.wrap(option.help, 106, initial_indent="      ", subsequent_indent="      ")
    return lines


def _says(spec: SamplerSpec) -> str:
    function = getattr(spec, "function", spec.method)
    return " ".join((inspect.getdoc(function) or "").split())


def as_json(spec: SamplerSpec) -> dict[str, Any]:
    """Everything a sampler declares."""
    return {name: getattr(spec, name) for name in FIELDS} | {
        "aliases": list(spec.aliases),
        "options": [option_json(option) for option in spec.options],
    }
