"""How much an adapter changes each block, as bars; beside them, where the model is known, as a part of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..loras.measure import BlockNorm
from .chart import COLOURS, FINE
from .lettering import FAINT, GREY, INK, Colour, blank, shortened, width, write

WIDTH, TOP, BOTTOM, LINE, LEFT, GAP, VALUE = 1040, 96, 48, 22, 132, 56, 72
SIDES: dict[str, tuple[str, Colour]] = {
    "text": ("text encoders", COLOURS[3]),
    "IN": ("input blocks", COLOURS[0]),
    "M": ("middle block", COLOURS[1]),
    "OUT": ("output blocks", COLOURS[2]),
    "motion": ("motion modules", COLOURS[5]),
    "rest": ("outside the blocks", COLOURS[6]),
}
"""How a block's name begins -> what it belongs to, and the colour of its bar."""


@dataclass(frozen=True)
class _Column:
    """Bars of one measure: their names on the left, or none, and the places they reach from and to."""

    title: str
    values: Sequence[float | None]
    show: Callable[[float], str]
    span: tuple[int, int]


def picture(title: str, facts: str, norms: Mapping[str, BlockNorm]) -> Image.Image:
    """A row for each block, in the order given. A block whose change depends on weights nobody named has no bar."""
    names = list(norms)
    height = TOP + BOTTOM + LINE * max(len(names), 1)
    sheet, draw = blank((WIDTH * FINE, height * FINE))
    pen = _Pen(draw)
    pen.text((24, 14), shortened(title, 18, WIDTH - 48), 18, INK)
    pen.text((24, 42), shortened(facts, 13, WIDTH - 48), 13)
    for row, name in enumerate(names):
        pen.text((LEFT - 10, _middle(row)), shortened(name, 13, LEFT - 24), 13, INK, "rm")
    for column in _columns(norms):
        pen.column(column, [_side(name)[1] for name in names], height)
    pen.legend(list(dict.fromkeys(_side(name) for name in names)), height - 22)
    return sheet.resize((WIDTH, height), Image.Resampling.LANCZOS)


def _columns(norms: Mapping[str, BlockNorm]) -> list[_Column]:
    """The norm of the change; and the same as a part of the weights' norm, where those are known."""
    changes = [norm.change if norm.change or not norm.unknown else None for norm in norms.values()]
    parts = [norm.relative for norm in norms.values()]
    title = "norm of the change"
    if not any(parts):
        return [_Column(title, changes, "{:.3g}".format, (LEFT, WIDTH - 24))]
    middle = (LEFT + WIDTH - 24) // 2
    return [
        _Column(title, changes, "{:.3g}".format, (LEFT, middle - GAP // 2)),
        _Column("part of the weights' norm", parts, "{:.2%}".format, (middle + GAP // 2, WIDTH - 24)),
    ]


def _side(name: str) -> tuple[str, Colour]:
    return next(side for start, side in SIDES.items() if name.startswith(start))


def _middle(row: int) -> float:
    return TOP + LINE * (row + 0.5)


class _Pen:
    """Draws in the coordinates of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw

    def text(
        self, at: tuple[float, float], text: str, size: int, colour: Colour = GREY, anchor: str = "la"
    ) -> None:
        write(self.draw, (at[0] * FINE, at[1] * FINE), text, size * FINE, colour, anchor)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.rectangle([round(edge * FINE) for edge in (left, top, right, bottom)], fill=colour)

    def column(self, column: _Column, colours: Sequence[Colour], height: int) -> None:
        left, right = column.span
        known = [value for value in column.values if value is not None]
        top = _round_up(max(known, default=0.0))
        scale = (right - VALUE - left) / top
        self.text((left, TOP - 30), column.title, 14, INK)
        for tick in range(5):
            x = left + top * tick / 4 * scale
            self.box(x, TOP, x + 0.7, height - BOTTOM, FAINT)
        for row, (value, colour) in enumerate(zip(column.values, colours, strict=True)):
            y, end = _middle(row), left + (value or 0.0) * scale
            self.box(left, y - LINE * 0.34, max(end, left + 0.7), y + LINE * 0.34, colour)
            text = "needs the model" if value is None else column.show(value)
            self.text((end + 6, y), text, 12, anchor="lm")

    def legend(self, sides: Sequence[tuple[str, Colour]], y: float) -> None:
        x = float(LEFT)
        for name, colour in sides:
            self.box(x, y - 6, x + 12, y + 6, colour)
            self.text((x + 18, y), name, 13, anchor="lm")
            x += 18 + width(name, 13) + 24


def _round_up(value: float) -> float:
    """The next of 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 in its decade; 1 for nothing."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next(
        step * decade for step in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15) if step * decade >= value
    )
