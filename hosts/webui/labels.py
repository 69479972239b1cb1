"""Names that no host's parser misreads."""

from __future__ import annotations

from collections.abc import Iterable


def ends_in(name: str, words: Iterable[str]) -> str | None:
    """The word that `name` ends in after a space, in any case, or None.

    The hosts read "DPM++ 2M Karras" as a sampler and a schedule: a sampler called "Demo Simple" becomes ("DPM++ 2M",
    "Simple"), since there is no sampler "Demo".
    """
    folded = name.lower()
    return next((word for word in words if folded.endswith(f" {word.lower()}")), None)


def readable(name: str, label: str, words: Iterable[str]) -> str:
    """`label`, or the name, which has no space, where the label ends in one of the schedules' `words`."""
    return name if ends_in(label, words) else label
