"""A small plot of curves with logarithmic axes: a colour and a marker each, drawn large and scaled down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from .lettering import FAINT, GREY, INK, Colour, blank, shortened, width, write

FINE = 3  # drawn so many times larger: what Pillow draws has hard edges
SIZE = (1040, 640)
LEFT, TOP, BOTTOM, LEGEND_LINE = 76, 76, 60, 22
LEGEND = (140, 330)  # least and greatest width
# Okabe and Ito's colours, told apart by the colour blind, and three darker ones
COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (60, 60, 60),
    (136, 34, 85),
    (102, 153, 0),
    (90, 60, 180),
)
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Points (x, y), both above 0; `hollow` curves are dashed and their markers empty."""

    name: str
    points: Sequence[Point]
    hollow: bool = False


def plot(title: str, across: str, up: str, curves: Sequence[Curve]) -> Image.Image:
    """The curves with axes, ticks and a legend. `across` and `up` name the axes."""
    legend = min(max([width(curve.name, 14) for curve in curves] + [LEGEND[0]]), LEGEND[1]) + 60
    height = max(SIZE[1], TOP + BOTTOM + LEGEND_LINE * len(curves))
    area = (LEFT, TOP, SIZE[0] - legend, height - BOTTOM)
    sheet, draw = blank((SIZE[0] * FINE, height * FINE))
    pen = _Pen(draw, area, [point for curve in curves for point in curve.points])
    pen.axes(title, across, up)
    for number, curve in enumerate(curves):
        style = _Style(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], curve.hollow)
        pen.curve(sorted(curve.points), style)
        pen.entry(area[2] + 16, TOP + 10 + number * LEGEND_LINE, curve.name, style, legend - 60)
    return sheet.resize((SIZE[0], height), Image.Resampling.LANCZOS)


def _polygon(*corners: float) -> Callable[[float, float, float], list[Point]]:
    """A marker with corners at these angles in degrees, 0 at the right, turning down."""

    def points(x: float, y: float, radius: float) -> list[Point]:
        return [
            (x + radius * math.cos(math.radians(a)), y + radius * math.sin(math.radians(a))) for a in corners
        ]

    return points


def _star(x: float, y: float, radius: float) -> list[Point]:
    return [
        (
            x + radius * (1.2 if k % 2 == 0 else 0.5) * math.sin(k * math.pi / 5),
            y - radius * (1.2 if k % 2 == 0 else 0.5) * math.cos(k * math.pi / 5),
        )
        for k in range(10)
    ]


MARKERS = (
    _polygon(*range(0, 360, 15)),  # a circle
    _polygon(45, 135, 225, 315),  # a square
    _polygon(270, 30, 150),  # triangles
    _polygon(0, 90, 180, 270),  # a diamond
    _polygon(90, 210, 330),
    _star,
    _polygon(0, 60, 120, 180, 240, 300),  # a hexagon
)


@dataclass(frozen=True)
class _Style:
    colour: Colour
    marker: Callable[[float, float, float], list[Point]]
    hollow: bool


class _Pen:
    """Draws in the coordinates of the finished picture; data are placed by logarithm."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, area: tuple[int, int, int, int], points: Sequence[Point]
    ) -> None:
        self.draw, self.area = draw, area
        self.across = _span([x for x, _ in points], 1.15)
        self.up = _span([y for _, y in points], 1.5)

    def place(self, point: Point) -> Point:
        left, top, right, bottom = self.area
        share = [
            math.log(value / low) / math.log(high / low)
            for value, (low, high) in zip(point, (self.across, self.up), strict=True)
        ]
        return left + share[0] * (right - left), bottom - share[1] * (bottom - top)

    def line(self, points: Sequence[Point], colour: Colour, thick: float) -> None:
        self.draw.line([_fine(point) for point in points], fill=colour, width=round(thick * FINE))

    def text(self, at: Point, text: str, size: int, colour: Colour = GREY, anchor: str = "la") -> None:
        write(self.draw, _fine(at), text, size * FINE, colour, anchor)

    def axes(self, title: str, across: str, up: str) -> None:
        left, top, right, bottom = self.area
        self.text((left, 14), shortened(title, 17, SIZE[0] - left - 20), 17, INK)
        for value in ticks(*self.across):
            x, _ = self.place((value, self.up[0]))
            self.line([(x, top), (x, bottom)], FAINT, 1)
            self.text((x, bottom + 8), f"{value:g}", 13, anchor="ma")
        for value in ticks(*self.up):
            _, y = self.place((self.across[0], value))
            self.line([(left, y), (right, y)], FAINT, 1)
            self.text((left - 8, y), f"{value:g}", 13, anchor="rm")
        self.line([(left, top), (left, bottom), (right, bottom)], INK, 1.5)
        self.text(((left + right) / 2, bottom + 32), across, 14, GREY, "ma")
        self.text((left - 60, top - 26), up, 14)

    def curve(self, points: Sequence[Point], style: _Style) -> None:
        placed = [self.place(point) for point in points]
        for start, end in pairwise(placed):
            self.stroke(start, end, style)
        for point in placed:
            self.mark(point, style)

    def stroke(self, start: Point, end: Point, style: _Style) -> None:
        if not style.hollow:
            self.line([start, end], style.colour, 2)
            return
        dashes = max(round(math.dist(start, end) / 9), 1)
        along = [
            (start[0] + (end[0] - start[0]) * k / dashes, start[1] + (end[1] - start[1]) * k / dashes)
            for k in range(dashes + 1)
        ]
        for number in range(0, dashes, 2):
            self.line(along[number : number + 2], style.colour, 1.5)

    def mark(self, at: Point, style: _Style) -> None:
        corners = style.marker(*at, 6.0)
        inside = (255, 255, 255) if style.hollow else style.colour
        self.draw.polygon([_fine(corner) for corner in corners], fill=inside)
        self.line([*corners, *corners[:2]], style.colour if style.hollow else (255, 255, 255), 1.2)

    def entry(self, left: float, y: float, name: str, style: _Style, limit: int) -> None:
        self.stroke((left, y), (left + 28, y), style)
        self.mark((left + 14, y), style)
        self.text((left + 36, y), shortened(name, 14, limit), 14, INK, "lm")


def _fine(point: Point) -> Point:
    return point[0] * FINE, point[1] * FINE


def _span(values: Sequence[float], margin: float) -> Point:
    """(low, high) around positive values, never empty."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    return low / margin, max(high, low * 1.2) * margin


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones: every 1, 2, 5 of each decade where few decades are shown, else the
    powers of ten.
    """
    decades = math.log10(high / low)
    steps = (1,) if decades > 3.2 else (1, 2, 5) if decades > 1.6 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [float(f"{value:.6g}") for value in found if low <= value <= high]
