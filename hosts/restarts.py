"""Restarts as text, `steps, times, t_min, t_max; ...`: how a host's field has them."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import OptionError
from ..samplers.restart_plan import Segment, checked


def segments_of(text: str) -> list[Segment] | None:
    """The restarts written one a line, or parted by semicolons; None where there is none.

    Raises OptionError for a line that is no restart.
    """
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    return [_segment(line) for line in lines if line] or None


def format_segments(segments: Sequence[Segment]) -> str:
    """The inverse of `segments_of`, in one line."""
    return "; ".join(", ".join(f"{value:g}" for value in segment) for segment in segments)


def _segment(line: str) -> Segment:
    words = [word.strip() for word in line.split(",")]
    try:
        steps, times, low, high = int(words[0]), int(words[1]), float(words[2]), float(words[3])
    except (ValueError, IndexError):
        raise OptionError(
            f"restart {line!r}", expected="steps, times, t_min, t_max, such as 9, 1, 0.1, 2"
        ) from None
    return checked((steps, times, low, high, *words[4:]))  # type: ignore[arg-type]
