"""What the measurements against hosts have in common: prompt, settings, the distance, the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

PROMPT, NEGATIVE = "a red (circle:1.3) on a [snowy] hill", "(blurry:1.2)"
STEPS, CFG, SEED, SIDE = 6, 5.0, 7, 64
SHARED: dict[str, Any] = {
    "negative": NEGATIVE,
    "steps": STEPS,
    "cfg": CFG,
    "seed": SEED,
    "size": (SIDE, SIDE),
}
Case = tuple[str, str, str, dict[str, Any]]  # the host's sampler and schedule, our sampler and its options


def cases(samplers: Sequence[str], schedules: Sequence[str], usual: str) -> list[Case]:
    """Euler on every schedule, every sampler on the usual one; `host's name=ours:option=value` where they differ."""
    found: list[Case] = [("euler", schedule, "euler", {}) for schedule in schedules]
    for text in samplers:
        theirs, _, rest = text.partition("=")
        ours, _, option = (rest or theirs).partition(":")
        found.append((theirs, usual, ours, dict([option.split("=", 1)] if option else [])))
    return found


def apart(ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|."""
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()


@contextmanager
def written(path: str) -> Iterator[list[dict[str, Any]]]:
    """The rows measured so far, written at the end and where it breaks off."""
    rows: list[dict[str, Any]] = []
    try:
        yield rows
    finally:
        Path(path).write_text(json.dumps(rows, indent=1), encoding="utf-8")
