"""A contact sheet: every picture with its prompt and what the checker found wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from .scene_checker import SIDE
from .scene_figures import Judged

COLUMNS, TEXT, GAP = 10, 62, 6
PARTS = ("shape", "colour", "background", "size", "position", "relation")
GOOD, FAIR, BAD = (20, 120, 40), (180, 120, 0), (190, 20, 20)


def contact_sheet(rows: Sequence[Judged], columns: int = COLUMNS) -> Image.Image:
    """Pictures in rows of `columns`; green: all right, amber: size, position or relation wrong, red: the rest."""
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, lines * (SIDE + TEXT + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for k, row in enumerate(rows):
        x, y = GAP + k % columns * (SIDE + GAP), GAP + k // columns * (SIDE + TEXT + GAP)
        wrong = [part for part in PARTS if getattr(row.verdict, part) is False]
        colour = BAD if not row.verdict.right else FAIR if wrong else GOOD
        sheet.paste(Image.fromarray(row.picture), (x, y))
        pen.rectangle((x - 2, y - 2, x + SIDE + 1, y + SIDE + 1), outline=colour, width=2)
        caption = textwrap.wrap(row.prompt.text, 23)[:4]
        pen.text((x, y + SIDE + 2), "\n".join(caption), fill=(0, 0, 0), spacing=1)
        verdict = "right" if not wrong else f"wrong: {', '.join(wrong)}"
        pen.text((x, y + SIDE + TEXT - 12), verdict[:27], fill=colour)
    return sheet
