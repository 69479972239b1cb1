"""Weights by block of the UNet: single blocks, groups, and the lists and presets people know from A1111's extension.

A block is IN00 ... of the input blocks, M00 of the middle, OUT00 ... of the output blocks (LDM numbers); BASE is the
text encoders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.errors import OptionError, nearest
from ..core.keymap import rows

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_PATH = re.compile(r"(input|middle|output)_blocks?(?:\.(\d+))?\.")
_SIDE = {"input": "IN", "middle": "M", "output": "OUT"}


def _span(side: str, numbers: range | tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{side}{n:02}" for n in numbers)


LISTS: dict[int, tuple[str, ...]] = {
    12: ("BASE", *_span("IN", (4, 5, 7, 8)), "M00", *_span("OUT", range(6))),
    17: ("BASE", *_span("IN", (1, 2, 4, 5, 7, 8)), "M00", *_span("OUT", range(3, 12))),
    20: ("BASE", *_span("IN", range(9)), "M00", *_span("OUT", range(9))),
    26: ("BASE", *_span("IN", range(12)), "M00", *_span("OUT", range(12))),
}
"""Length of a list of values -> the blocks they are for: SDXL and SD1 blocks with transformers, SDXL and SD1 whole."""

PRESETS = rows("""
    NONE   0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0
    ALL    1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
    INS    1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0
    IND    1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0
    INALL  1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0
    MIDD   1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0
    OUTD   1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0
    OUTS   1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1
    OUTALL 1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1
    ALL0.5 0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5
""")
WHOLE = {
    "NONE": {"BASE": 0.0, "IN": 0.0, "M": 0.0, "OUT": 0.0},
    "ALL": {},
    "INALL": {"M": 0.0, "OUT": 0.0},
    "OUTALL": {"IN": 0.0, "M": 0.0},
    "ALL0.5": {"BASE": 0.5, "IN": 0.5, "M": 0.5, "OUT": 0.5},
}
"""Presets that mean the same for every family: by side, so that they hold for SDXL's blocks too."""

GROUPS = {
    "IN": "IN",
    "DOWN": "IN",
    "M": "M",
    "MID": "M",
    "MIDDLE": "M",
    "OUT": "OUT",
    "UP": "OUT",
    "BASE": "BASE",
    "TE": "BASE",
}


@dataclass(frozen=True)
class Blocks:
    """``factors`` of single blocks; a block that is not named has its side's factor, else ``rest``.

    Layers outside the blocks (time embedding, last convolution) keep their weight.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    sides: Mapping[str, float] = field(default_factory=dict)
    rest: float = 1.0

    @property
    def base(self) -> float:
        """The factor of the text encoders."""
        return self.factors.get("BASE", self.sides.get("BASE", 1.0))

    def factor(self, path: str) -> float:
        """The factor of a UNet module by its LDM path."""
        block = block_of(path)
        if block is None:
            return 1.0
        return self.factors.get(block, self.sides.get(block.rstrip("0123456789"), self.rest))


def block_of(path: str) -> str | None:
    """`output_blocks.3.1.proj_in` -> `OUT03`; None outside the blocks."""
    found = _PATH.match(path)
    if found is None:
        return None
    return f"{_SIDE[found[1]]}{0 if found[1] == 'middle' else int(found[2]):02}"


def parse_blocks(text: str, where: str) -> Blocks:
    """A preset's name, a list of 12, 17, 20 or 26 values, or assignments `IN=0,OUT03-OUT05=0.5,MID=1`.

    Blocks that a list has no value for get 0, as in the extension that these lists come from. OptionError otherwise.
    """
    if text.upper() in WHOLE:
        return Blocks(sides=WHOLE[text.upper()])
    values = PRESETS.get(text.upper(), text)
    if re.fullmatch(rf"\s*{_NUMBER}(\s*,\s*{_NUMBER})*\s*", values):
        return _listed([float(word) for word in values.split(",")], where)
    if "=" not in text:
        raise OptionError(f"unknown blocks {text!r}", where, todo=nearest(text, PRESETS))
    return _assigned(text, where)


def _listed(values: list[float], where: str) -> Blocks:
    if len(values) not in LISTS:
        raise OptionError(f"{len(values)} values for blocks", where, "12, 17, 20 or 26")
    return Blocks(dict(zip(LISTS[len(values)], values, strict=True)), rest=0.0)


def _assigned(text: str, where: str) -> Blocks:
    factors: dict[str, float] = {}
    sides: dict[str, float] = {}
    for word in text.split(","):
        names, equals, value = word.partition("=")
        try:
            number = float(value) if equals else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise OptionError(f"{word!r} in blocks", where, "NAME=factor, such as OUT03=0.5")
        name = names.strip().upper()
        if name in GROUPS:
            sides[GROUPS[name]] = number
        else:
            factors |= dict.fromkeys(_range(name, where), number)
    return Blocks(factors, sides)


def _range(name: str, where: str) -> list[str]:
    """`IN04` or `IN04-IN08`."""
    known = LISTS[26]
    first, dash, last = (part.strip() for part in name.partition("-"))
    ends = [_block(part) for part in (first, last if dash else first)]
    for given, block in zip((first, last or first), ends, strict=True):
        if block not in known:
            raise OptionError(f"unknown block {given!r}", where, todo=nearest(given, [*known, *GROUPS]))
    begin, end = sorted(known.index(block) for block in ends)  # type: ignore[arg-type]
    return list(known[begin : end + 1])


def _block(name: str) -> str | None:
    found = re.fullmatch(r"(IN|M|MID|OUT)(\d{1,2})", name)
    return f"{'M' if found[1].startswith('M') else found[1]}{int(found[2]):02}" if found else None
