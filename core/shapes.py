"""Reading a network's sizes from the shapes in a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count as _integers

from .errors import FileError

Shapes = Mapping[str, tuple[int, ...]]


def count(shapes: Shapes, pattern: str) -> int:
    """How many of ``pattern`` with 0, 1, 2, ... in its braces are there, without a gap."""
    return next(n for n in _integers() if pattern.format(n) not in shapes)


def require(shapes: Shapes, name: str, what: str) -> tuple[int, ...]:
    """The shape of ``name``; FileError where it is missing, as every file that holds ``what`` has it."""
    if name not in shapes:
        raise FileError(
            f"no tensor {name!r}", expected=f"{what} in the LDM layout", todo="check that the file is whole"
        )
    return shapes[name]
