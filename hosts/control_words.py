"""Options of a preprocessor as one line of text in a host's field."""

from __future__ import annotations

from typing import Any

from ..controlnet.preprocess import PREPROCESSORS
from ..core.errors import OptionError, nearest
from .settings import parse_options


def options_of(names: str, line: str) -> dict[str, Any]:
    """`low=50, high=120` for a preprocessor, or for several between plus signs. OptionError for what none takes."""
    specs = [PREPROCESSORS[name] for name in names.split("+")]
    pairs = [part for part in line.replace(";", ",").split(",") if part.strip()]
    words = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in pairs)}
    texts = {name for spec in specs for name in spec.texts or ()}
    declared = {option.name: option for spec in specs for option in spec.options}
    for name in words:
        if name not in texts and name not in declared:
            raise OptionError(
                f"option {name!r}", f"preprocessor {names}", todo=nearest(name, sorted({*texts, *declared}))
            )
    numbers = ", ".join(f"{name}={value}" for name, value in words.items() if name not in texts)
    own = {name: value for name, value in words.items() if name in texts}
    return own | parse_options(numbers, list(declared.values()), f"preprocessor {names}")
