"""`sigmagraft noises [NAME]`: every registered type of step noise, or one, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import listing


def run(argv: Sequence[str]) -> int:
    """Print the table, all about one, or JSON."""
    what = "The types of noise a sampler adds to its steps: --noise-type NAME."
    return listing.run(argv, "noises", what, _registry)


def _registry() -> Any:
    from ...samplers import NOISE_TYPES

    return NOISE_TYPES
