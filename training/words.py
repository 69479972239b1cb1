"""Names and exact values of everything a scene can hold: the one table shared by drawing, captions and checking.

Coordinates: the picture is the unit square, x to the right, y down. A size is the object's half extent, a
position is a direction from the centre in units of the free room the object has.
"""

from __future__ import annotations

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 40),
    "green": (30, 150, 60),
    "cyan": (70, 215, 230),
    "blue": (35, 70, 205),
    "purple": (125, 40, 165),
    "pink": (255, 150, 195),
    "white": (245, 245, 245),
    "black": (20, 20, 24),
}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond")

# Half extent as a fraction of the picture's side; drawing varies it by SIZE_JITTER of itself.
SIZES: dict[str, float] = {"small": 0.14, "medium": 0.205, "large": 0.29}
SIZE_JITTER = 0.06

POSITIONS: dict[str, tuple[int, int]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}

# (dx, dy) of the first object seen from the second; None = they overlap and the first one hides part of the second.
RELATIONS: dict[str, tuple[int, int] | None] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
    "in front of": None,
}

STRIPES: tuple[str, ...] = ("horizontal", "vertical")
STRIPE_PERIOD = 0.25  # of the picture's side: two bands of 16 pixels at 128

STYLES: tuple[str, ...] = ("flat", "outlined", "shaded")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "large": ("big", "huge"),
    "small": ("little", "tiny"),
    "medium": ("medium-sized",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "circle": ("disc", "dot"),
    "diamond": ("rhombus",),
    "cross": ("plus sign",),
    "centre": ("middle",),
    "background": ("backdrop",),
}

HELD_OUT_SHARE = 10


def held_out(colour: str, shape: str, background: str) -> bool:
    """True for the one colour / shape / background triple in ten that training never sees.

    Every colour, shape and background, and every pair of them, does occur in training.
    """
    names = list(COLOURS)
    code = names.index(colour) + 3 * SHAPES.index(shape) + 7 * names.index(background)
    return code % HELD_OUT_SHARE == 0
