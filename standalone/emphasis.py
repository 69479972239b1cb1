"""What a weight in a prompt does: each convention's syntax, chunks and arithmetic, as one row of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest
from .chunks import Chunk, Piece, fill_a1111, fill_comfyui, fill_first
from .prompt import Segment, parse_a1111, parse_comfyui, parse_none


def unweighted(z: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """z: weights do nothing."""
    return z


def multiply(z: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """z w, for hidden states z [chunks, n, width] and weights w [chunks, n]."""
    return z * weights[..., None]


def multiply_keep_mean(z: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """z w mean(z) / mean(z w), the means over a whole chunk (A1111's "Original").

    A mean that is nothing but rounding (as an untrained layer norm's) restores nothing: there the factor is 1.
    """
    weighed = multiply(z, weights, empty)
    means = torch.stack([states.mean(dim=(1, 2), keepdim=True) for states in (z, weighed)])
    rounding = 1e-4 * z.square().mean(dim=(1, 2), keepdim=True).sqrt()
    factor = torch.where((means.abs() > rounding).all(dim=0), means[0] / means[1], torch.ones_like(means[0]))
    return weighed * factor


def from_empty(z: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """z0 + w (z - z0), from the empty prompt's hidden states z0 [n, width] (ComfyUI)."""
    return empty + weights[..., None] * (z - empty)


@dataclass(frozen=True)
class Emphasis:
    """One convention: `fill(pieces, room, comma, backtrack)` makes chunks, `weigh(z, weights, empty)` weighs.

    `bare_names`: an embedding is called by its file's name alone, not only by `embedding:name`.
    `zero_negative`: an empty negative prompt is all zeros where a model was trained with zeros for no
    prompt (SDXL base).
    `edits`: `[a:b:0.5]`, `[a|b]` and AND mean what they do in A1111.
    """

    name: str
    text: str
    parse: Callable[[str], list[Segment]]
    fill: Callable[[Sequence[Piece], int, int | None, int], list[Chunk]]
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor]
    bare_names: bool
    zero_negative: bool
    edits: bool = False


_TABLE = (
    Emphasis(
        "a1111",
        "A1111 and Forge: multiply, then restore the chunk's mean",
        parse_a1111,
        fill_a1111,
        multiply_keep_mean,
        bare_names=True,
        zero_negative=True,
        edits=True,
    ),
    Emphasis(
        "a1111-no-norm",
        'A1111\'s "No norm": multiply',
        parse_a1111,
        fill_a1111,
        multiply,
        bare_names=True,
        zero_negative=True,
        edits=True,
    ),
    Emphasis(
        "comfyui",
        "ComfyUI: away from or towards the empty prompt",
        parse_comfyui,
        fill_comfyui,
        from_empty,
        bare_names=False,
        zero_negative=False,
    ),
    Emphasis(
        "diffusers",
        "diffusers: as none, and what is beyond the first 75 tokens is cut off",
        parse_none,
        fill_first,
        unweighted,
        bare_names=True,
        zero_negative=True,
    ),
    Emphasis(
        "none",
        "parentheses, brackets and BREAK are text",
        parse_none,
        fill_a1111,
        unweighted,
        bare_names=True,
        zero_negative=True,
    ),
)
EMPHASIS: dict[str, Emphasis] = {row.name: row for row in _TABLE}


def find_emphasis(name: str) -> Emphasis:
    """The convention of that name; OptionError with the nearest names if there is none."""
    if name not in EMPHASIS:
        raise OptionError(f"unknown emphasis {name!r}", "--emphasis", todo=nearest(name, EMPHASIS))
    return EMPHASIS[name]
