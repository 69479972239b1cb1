"""What a host's console sees of us: one line where something failed, one line once where something is worth knowing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("sigmagraft")
_said: set[str] = set()


def say_once(message: str, level: int = logging.INFO) -> None:
    """Log `message` the first time only, however often the host loads its extensions again."""
    if message not in _said:
        _said.add(message)
        logger.log(level, message)


def warn_once(message: str) -> None:
    """As `say_once`, for what a person should see whatever the host's level of logging."""
    say_once(message, logging.WARNING)


@contextmanager
def guarded(
    doing: str, todo: str = "update SigmaGraft, or disable it; the host goes on without it"
) -> Iterator[None]:
    """Turn a failure of ours while `doing` into one line on the console, since a host must start without us."""
    try:
        yield
    except Exception as error:  # a host that cannot start is worse than an extension that is missing
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"[SigmaGraft] {doing} failed: {reason}; {todo}")
        logger.debug("%s", doing, exc_info=True)
