"""Text on pictures, in Pillow's own font: no font file is needed or looked for."""

from __future__ import annotations

from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

INK, GREY, FAINT, PAPER = (24, 24, 27), (113, 113, 122), (228, 228, 231), (255, 255, 255)
Colour = tuple[int, int, int]


@cache
def font(size: int) -> Any:
    """Pillow's font at `size` pixels; before Pillow 10.1 its only size."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def width(text: str, size: int) -> int:
    """Of a line, in pixels."""
    return round(font(size).getlength(_drawable(text)))


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = INK,
    anchor: str = "la",
) -> None:
    """One line; `anchor` as in Pillow: l, m or r across, a (top), m or s (baseline) down."""
    text, face = _drawable(text), font(size)
    if isinstance(face, ImageFont.FreeTypeFont):
        draw.text(at, text, fill=colour, font=face, anchor=anchor)
        return
    across = {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * face.getlength(text)
    down = {"a": 0.0, "m": 0.5, "s": 1.0}[anchor[1]] * 11
    draw.text((at[0] - across, at[1] - down), text, fill=colour, font=face)


def shortened(text: str, size: int, limit: int) -> str:
    """`text` cut with an ellipsis to `limit` pixels."""
    if width(text, size) <= limit:
        return text
    while text and width(text + "...", size) > limit:
        text = text[:-1]
    return text.rstrip() + "..."


def wrapped(text: str, size: int, limit: int, lines: int) -> list[str]:
    """`text` in at most so many lines of `limit` pixels, broken at spaces and underscores; the last is cut."""
    words = text.replace("_", "_ ").split(" ")
    found = [""]
    for word in words:
        glue = "" if found[-1].endswith("_") or not found[-1] else " "
        if found[-1] and width(found[-1] + glue + word, size) > limit and len(found) < lines:
            found.append(word)
        else:
            found[-1] += glue + word
    return [shortened(line, size, limit) for line in found]


def _drawable(text: str) -> str:
    """What Pillow's font has: other letters become question marks instead of empty boxes."""
    return text.encode("latin-1", "replace").decode("latin-1")


def blank(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white sheet and what draws on it."""
    sheet = Image.new("RGB", size, PAPER)
    return sheet, ImageDraw.Draw(sheet)
