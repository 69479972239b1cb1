"""`<lora:name:weight:...>` in prompts: taken out before the words are read, and what they ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.errors import OptionError
from ..loras.strength import Strength, parse_expression

_TAG = re.compile(r"<(?:lora|lyco):([^<>]+)>")


@dataclass(frozen=True)
class Wanted:
    """One adapter of a run: what names it (a name, a path, a hub id), how strongly it acts, options of its source."""

    source: str
    strength: Strength
    options: tuple[tuple[str, str], ...] = ()


def without_tags(prompt: str) -> str:
    """The prompt's words."""
    return _TAG.sub("", prompt)


def tags(prompt: str) -> list[str]:
    """The expressions in a prompt, in their order."""
    return _TAG.findall(prompt)


def wanted(expressions: Iterable[str]) -> list[Wanted]:
    """What expressions ask for; OptionError for one that cannot be read."""
    found = []
    for text in expressions:
        name, strength, options = parse_expression(text)
        found.append(Wanted(name, strength, tuple(options.items())))
    return found


def of_prompts(prompts: Sequence[str], given: Sequence[str] | None) -> list[Wanted]:
    """The adapters of a batch: those given apart, then those of its prompts, which must be the same in each.

    OptionError where they are not: a batch is drawn by one network.
    """
    each = [tags(prompt) for prompt in prompts]
    if any(own != each[0] for own in each[1:]):
        raise OptionError(
            "the prompts of one batch name different adapters", todo="draw them one by one, batch=1"
        )
    return wanted([*(given or ()), *(each[0] if each else ())])


def differ(prompts: Sequence[str]) -> bool:
    """Whether the prompts of a batch name different adapters."""
    return any(tags(prompt) != tags(prompts[0]) for prompt in prompts[1:])
