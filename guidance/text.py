"""Guidance in words: `pag:scale=3`, and several in a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import OptionError
from ..core.option import Value, resolve
from .spec import GUIDANCES, GuidanceSpec


@dataclass(frozen=True)
class Chosen:
    """A guidance with the options that were named, and all of them."""

    spec: GuidanceSpec
    named: Mapping[str, Value]
    options: Mapping[str, Value]

    @property
    def text(self) -> str:
        """As it is written, with the options that were named."""
        said = ",".join(f"{name}={_spelled(value)}" for name, value in self.named.items())
        return f"{self.spec.name}:{said}" if said else self.spec.name

    @property
    def remembers(self) -> bool:
        """Whether it goes by earlier evaluations."""
        return self.spec.remembers(dict(self.options))


def read_guidance(text: str) -> Chosen:
    """`name` or `name:option=value,option=value`. OptionError for what is not registered or out of range."""
    name, _, rest = text.strip().partition(":")
    spec, owner = GUIDANCES[name], f"guidance {name}"
    given: dict[str, Any] = {}
    for part in filter(None, map(str.strip, rest.split(","))):
        option, equals, value = part.partition("=")
        if not equals:
            raise OptionError(f"{part!r}", owner, "option=value")
        given[option.strip()] = value.strip()
    options = resolve(spec.options, given, owner)
    if options["start"] >= options["stop"]:  # type: ignore[operator]
        raise OptionError(f"start {options['start']} and stop {options['stop']}", owner, "start below stop")
    return Chosen(spec, {option: options[option] for option in given}, options)


def read_guidances(texts: Iterable[str]) -> list[Chosen]:
    """Each of them once. OptionError as `read_guidance`, and for one that is there twice."""
    found: dict[str, Chosen] = {}
    for text in texts:
        chosen = read_guidance(text)
        if chosen.spec.name in found:
            raise OptionError(f"guidance {chosen.spec.name} twice", expected="each once")
        found[chosen.spec.name] = chosen
    return list(found.values())


def _spelled(value: Value) -> str:
    return value if isinstance(value, str) else repr(value).removesuffix(".0")
