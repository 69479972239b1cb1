"""The few exception types of the package: each message says what, where, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SigmaGraftError(Exception):
    """A mistake a person can mend; `str()` is one line: `where: what (expected ...); todo`."""

    def __init__(
        self,
        what: str,
        where: object | None = None,
        expected: object | None = None,
        todo: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.todo = todo

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.expected:
            text += f" (expected {self.expected})"
        if self.todo:
            text += f"; {self.todo}"
        return " ".join(text.split())


class FileError(SigmaGraftError):
    """A file or folder that cannot be read or written, or is not what it should be."""


class OptionError(SigmaGraftError):
    """A value that was asked for does not exist or does not fit."""


class MissingPartError(SigmaGraftError):
    """The model lacks a part (VAE, text encoder, ...) which an option can supply."""


class OutOfMemory(SigmaGraftError):
    """The device's memory ran out; `todo` says what to lower."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'a' or 'b'?` for the names closest to `name`, else all names (a long list is cut)."""
    known = sorted(set(names))
    folded = {known_name.lower(): known_name for known_name in known}
    close = [folded[match] for match in difflib.get_close_matches(str(name).lower(), folded, n=3, cutoff=0.6)]
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
    return f"choose from: {shown}"
