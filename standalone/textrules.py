"""How each family uses its text encoders: which layer, which padding, what else its vector holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import MissingPartError, OptionError

AESTHETIC, NEGATIVE_AESTHETIC = 6.0, 2.5  # the SDXL refiner's defaults
_WHOLE, _CUT = (
    24,
    23,
)  # OpenCLIP-H's layers, and those of SD2 files that leave out the last (it is never used)


@dataclass(frozen=True)
class TextRule:
    """One family. The tuples have one item for each text encoder, in the order of `Model.texts`.

    `roles`: the encoders' names in textual inversion files; `pads`: the padding token, None for the end
    token; `skip`: the clip skip that the family was trained with; `sizes`: what its vector holds besides
    pooled text, "" for no vector.
    """

    roles: tuple[str, ...]
    pads: tuple[int | None, ...]
    skip: int
    final_norm: bool
    sizes: str = ""


RULES = {
    "sd1": TextRule(("clip_l",), (None,), skip=1, final_norm=True),
    "sd2": TextRule(("clip_h",), (0,), skip=2, final_norm=True),
    "sdxl": TextRule(("clip_l", "clip_g"), (None, 0), skip=2, final_norm=False, sizes="target"),
    "sdxl-refiner": TextRule(("clip_g",), (0,), skip=2, final_norm=False, sizes="aesthetic"),
}


def text_rule(family: str, encoders: int) -> TextRule:
    """The family's rule; MissingPartError where the model has fewer or more text encoders than it takes."""
    rule = RULES[family]
    if encoders != len(rule.roles):
        raise MissingPartError(
            f"this {family} model has {encoders} text encoders",
            expected=f"{len(rule.roles)} ({', '.join(rule.roles)})",
            todo="give them with --text-encoder",
        )
    return rule


def hidden_layer(family: str, layers: int, clip_skip: int | None = None) -> int:
    """The hidden state to use, counted from the end (-1 the last); OptionError where the encoder lacks it.

    `clip_skip` counts from the last layer that the family's encoder was trained with (1), also where a file
    leaves that layer out: SD2's penultimate layer is the last of a 23-layer file.
    """
    cut = _WHOLE - _CUT if family == "sd2" and layers == _CUT else 0
    skip = RULES[family].skip if clip_skip is None else clip_skip
    if not 1 + cut <= skip <= layers + cut:
        why = f"; this file leaves out the last of {_WHOLE} layers" if cut else ""
        raise OptionError(
            f"clip skip {skip} does not exist{why}", "--clip-skip", f"{1 + cut} to {layers + cut}"
        )
    return cut - skip


@dataclass(frozen=True)
class Sizes:
    """SDXL's size conditioning: (width, height), crop (left, top), pixels; None: the picture's size."""

    original: tuple[int, int] | None = None
    crop: tuple[int, int] = (0, 0)
    target: tuple[int, int] | None = None
    aesthetic: float | None = None

    def values(self, kind: str, size: tuple[int, int], negative: bool = False) -> Sequence[float]:
        """The numbers in the vector's order, heights before widths: 6 for "target", 5 for "aesthetic"."""
        original, target = self.original or size, self.target or size
        first = [original[1], original[0], self.crop[1], self.crop[0]]
        if kind == "target":
            return [*first, target[1], target[0]]
        default = NEGATIVE_AESTHETIC if negative else AESTHETIC
        return [*first, default if self.aesthetic is None else self.aesthetic]
