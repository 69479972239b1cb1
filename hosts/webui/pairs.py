"""Settings in one line of a panel: NAME=VALUE parted by semicolons, since values hold commas."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.errors import OptionError


def pairs(line: str, key: str) -> Iterator[tuple[str, str]]:
    """Names and values in turn. OptionError, which names the panel `key`, for what has no equals sign."""
    for part in filter(str.strip, line.replace("\n", ";").split(";")):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise OptionError(f"setting {part.strip()!r}", key, "NAME=VALUE; NAME=VALUE")
        yield name, value
