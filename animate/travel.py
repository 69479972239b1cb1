"""Prompts at some frames of a clip, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError

# (first frame, last frame, the first's embedding, the last's) -> embeddings of all of them
Between = Callable[[int, int, Tensor, Tensor], Tensor]


def at_frames(text: Any, frames: int) -> dict[int, str]:
    """{frame: text} in order, from frame 0 to the last, which has the text before it. OptionError for other frames."""
    given: Mapping[int, str] = text if isinstance(text, dict) else {0: text or ""}
    if not all(isinstance(k, int) and isinstance(v, str) for k, v in given.items()):
        raise OptionError("prompts by frame", expected="a dictionary of frame numbers and texts")
    if 0 not in given or min(given) < 0 or max(given) >= frames:
        raise OptionError(f"prompts at frames {sorted(given)}", expected=f"0 and others below {frames}")
    return dict(sorted({frames - 1: given[max(given)], **given}.items()))


def spread(rows: Tensor, places: Sequence[int], between: Between | None = None) -> Tensor:
    """Rows at `places`, the first of which is 0, -> a row for each frame up to the last of them."""
    if len(places) == 1:
        return rows
    out = rows.new_empty(places[-1] + 1, *rows.shape[1:])
    for k, (first, last) in enumerate(pairwise(places)):
        out[first : last + 1] = (between or straight)(first, last, rows[k : k + 1], rows[k + 1 : k + 2])
    return out


def straight(first: int, last: int, begin: Tensor, end: Tensor) -> Tensor:
    """On a straight line from one to the other."""
    share = torch.linspace(0, 1, last - first + 1, device=begin.device, dtype=begin.dtype)
    return torch.lerp(begin, end, share.reshape(-1, *(1,) * (begin.ndim - 1)))
