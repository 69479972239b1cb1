"""Options as one line of text, `eta=0.5, order=3`: how they travel through a host's fields and a picture's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.errors import OptionError
from ..samplers.spec import Option, Value, resolve


def parse_options(text: str, declared: Sequence[Option], owner: str) -> dict[str, Value]:
    """The options written in `text`, checked; only those that are written.

    Commas, semicolons and line ends part them; "" is none. Raises OptionError for what is not NAME=VALUE, for an
    unknown name, for a value out of range and for a name given twice.
    """
    given: dict[str, str] = {}
    for part in text.replace(";", ",").replace("\n", ",").split(","):
        if not part.strip():
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not name or not value:
            raise OptionError(f"option {part.strip()!r}", owner, "NAME=VALUE, NAME=VALUE")
        if name in given:
            raise OptionError(f"option {name} twice", owner, "each once")
        given[name] = value
    values = resolve(declared, given, owner)
    return {name: values[name] for name in given}


def format_options(values: Mapping[str, Value], declared: Sequence[Option] = ()) -> str:
    """The inverse of `parse_options`; with `declared`, what stands at its default is left out."""
    defaults = {option.name: option.default for option in declared}
    return ", ".join(
        f"{name}={_written(value)}" for name, value in values.items() if value != defaults.get(name)
    )


def _written(value: Value) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def describe(declared: Sequence[Option]) -> str:
    """A line for each option, for tooltips: name, default, range and help."""
    return "\n".join(f"{o.name}={_written(o.default)}: {o.expected}. {o.help}".rstrip() for o in declared)
