"""Settings of controls and image prompts as words: what commands, tables and hosts' text fields have in common."""

from __future__ import annotations

from typing import Any

from ..core.errors import OptionError


def number(name: str, value: Any) -> float:
    """OptionError where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} {value!r}", expected="a number") from None


def numbers(name: str, value: Any) -> Any:
    """`1, 0.5`; what is no text is left as it is."""
    return [number(name, word) for word in value.split(",")] if isinstance(value, str) else value


def integers(name: str, value: Any) -> list[int]:
    """`0, 8`."""
    return [int(one) for one in numbers(name, value)]


def keyframes(name: str, value: Any) -> Any:
    """`0@1, 0.5@0.3`: share of the steps @ factor."""
    if not isinstance(value, str):
        return value
    pairs = [word.partition("@") for word in value.split(",")]
    return [(number(name, place), number(name, factor)) for place, _, factor in pairs]


def types(name: str, value: Any) -> list[str | int]:
    """`depth+3`: names or numbers."""
    words = value.split("+") if isinstance(value, str) else value
    return [int(word) if str(word).isdigit() else word for word in words]


def layers(name: str, value: Any) -> dict[str, float]:
    """`input8=1, output1=0.5`, or such a table."""
    if not isinstance(value, str):
        return {key: number(name, factor) for key, factor in value.items()}
    pairs = [word.partition("=") for word in value.split(",")]
    if any(not equals for _, equals, _ in pairs):
        raise OptionError(f"{name} {value!r}", expected="such as input8=1,output1=0.5")
    return {key.strip(): number(name, factor) for key, _, factor in pairs}
