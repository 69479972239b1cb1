"""`sigmagraft guidances [NAME]`: every registered guidance, or one, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import listing

MORE = {"more evaluations": lambda spec: f"{spec.extra} a step" if spec.extra else ""}


def run(argv: Sequence[str]) -> int:
    """Print the table, all about one, or JSON."""
    what = "What changes how the prompt pulls: --guidance NAME, which may be repeated."
    return listing.run(argv, "guidances", what, _registry, MORE)


def _registry() -> Any:
    from ...guidance import GUIDANCES

    return GUIDANCES
