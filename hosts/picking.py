"""The rows of whatever a host hands to its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def picked(value: Any, rows: Sequence[int], count: int) -> Any:
    """The rows of every tensor that has one for each of the batch."""
    if isinstance(value, Tensor):
        return value[list(rows)] if value.ndim and len(value) == count else value
    if isinstance(value, Mapping):
        return {name: picked(one, rows, count) for name, one in value.items()}
    return [picked(one, rows, count) for one in value] if isinstance(value, list) else value
