"""Pictures in rows and columns with their names beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .lettering import FAINT, GREY, INK, blank, shortened, wrapped, write

SMALL, LARGE, GAP = 13, 16, 10
CAPTION = 2 * (SMALL + 4)  # pixels below a picture
ROWS = 190  # width of the rows' names
Cell = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Picture:
    """What stands in a cell: a picture with a caption, or no picture and the reason as its caption."""

    image: Image.Image | None
    caption: Sequence[str]


def labelled(
    title: Sequence[str], rows: Sequence[str], columns: Sequence[str], cells: Mapping[Cell, Picture]
) -> Image.Image:
    """One sheet: title lines, the columns' names above, the rows' names at the left; an empty cell stays white."""
    sizes = [cell.image.size for cell in cells.values() if cell.image]
    wide = max([width for width, _ in sizes] + [160])
    high = max([height for _, height in sizes] + [64])
    top = GAP + len(title) * (LARGE + 6) + LARGE + GAP
    size = (ROWS + len(columns) * (wide + GAP) + GAP, top + len(rows) * (high + CAPTION + GAP))
    sheet, draw = blank(size)
    for number, line in enumerate(title):
        text = shortened(line, LARGE, size[0] - 2 * GAP)
        write(draw, (GAP, GAP + number * (LARGE + 6)), text, LARGE, INK if number == 0 else GREY)
    for across, column in enumerate(columns):
        left = ROWS + across * (wide + GAP)
        write(draw, (left + wide / 2, top - GAP), shortened(column, LARGE, wide), LARGE, INK, "ms")
    for down, row in enumerate(rows):
        y = top + down * (high + CAPTION + GAP)
        for number, line in enumerate(wrapped(row, LARGE, ROWS - 2 * GAP, 4)):
            write(draw, (GAP, y + number * (LARGE + 4)), line, LARGE)
        for across, column in enumerate(columns):
            if (row, column) in cells:
                _cell(sheet, draw, (ROWS + across * (wide + GAP), y), (wide, high), cells[row, column])
    return sheet


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], size: tuple[int, int], cell: Picture
) -> None:
    (left, top), (wide, high) = at, size
    if cell.image is None:
        draw.rectangle((left, top, left + wide - 1, top + high - 1), outline=FAINT)
        for number, line in enumerate(wrapped(" ".join(cell.caption), SMALL, wide - 2 * GAP, 6)):
            write(draw, (left + GAP, top + GAP + number * (SMALL + 4)), line, SMALL, GREY)
        return
    sheet.paste(cell.image, (left + (wide - cell.image.width) // 2, top))
    for number, line in enumerate(cell.caption):
        text = shortened(line, SMALL, wide)
        write(draw, (left + wide / 2, top + high + 4 + number * (SMALL + 4)), text, SMALL, GREY, "ma")
