"""Drawing a Scene, anti-aliased, together with its truth.

Every shape is a list of polygons in [-1, 1]^2, x right, y down; a later polygon of a shape cuts a hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .scenes import Background, Scene, Thing
from .words import COLOURS, STRIPE_PERIOD

SUPERSAMPLE = 4
Points = NDArray[np.float64]  # [n, 2]


@dataclass(frozen=True)
class Truth:
    """What a drawn scene holds, all of the picture's height and width.

    masks [n, h, w] float32: visible coverage of each thing in [0, 1]; order [h, w] float32: 0 on the
    background, (k + 1) / n on the k-th thing from the back; edges [h, w] float32: outlines of what is visible;
    image [h, w, 3] uint8.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.float32]
    order: NDArray[np.float32]
    edges: NDArray[np.float32]


def draw(scene: Scene, size: int = 128) -> Truth:
    """The picture of a scene and the truth about it."""
    picture = background_pixels(scene.background, size)
    masks: list[NDArray[np.float32]] = []
    for thing in scene.things:
        cover = coverage(thing, size)
        masks = [m * (1 - cover) for m in masks] + [cover]
        picture = picture + cover[..., None] * (_surface(thing, size) - picture)
    stack = np.stack(masks) if masks else np.zeros((0, size, size), np.float32)
    order = np.zeros((size, size), np.float32)
    for k, mask in enumerate(stack):
        order[mask > 0.5] = (k + 1) / len(stack)
    return Truth(np.clip(np.rint(picture), 0, 255).astype(np.uint8), stack, order, _edges(order))


def background_pixels(background: Background, size: int) -> NDArray[np.float32]:
    """[size, size, 3] in 0..255."""
    pixels = np.broadcast_to(_rgb(background.colour), (size, size, 3))
    if background.second is None:
        return pixels
    band = (np.arange(size) / (STRIPE_PERIOD * size) * 2).astype(int) % 2 == 1
    where = band[:, None] if background.stripes == "horizontal" else band[None, :]
    return np.where(where[..., None], _rgb(background.second), pixels).astype(np.float32)


def coverage(thing: Thing, size: int) -> NDArray[np.float32]:
    """[size, size] in [0, 1]: how much of each pixel the thing covers, nothing hiding it."""
    return _cover(_polygons(thing.shape), thing, 1.0, size)


def _cover(polygons: list[Points], thing: Thing, scale: float, size: int) -> NDArray[np.float32]:
    big = size * SUPERSAMPLE
    canvas = Image.new("L", (big, big))
    pen = ImageDraw.Draw(canvas)
    for k, points in enumerate(polygons):
        corners = (points * thing.extent * scale + (thing.x, thing.y)) * big
        pen.polygon([tuple(p) for p in corners.tolist()], fill=0 if k else 255)
    return np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) / 255


def _surface(thing: Thing, size: int) -> NDArray[np.float32]:
    """[size, size, 3] colours of a thing's surface in its style."""
    base = np.broadcast_to(_rgb(thing.colour), (size, size, 3))
    if thing.style == "flat":
        return base
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if thing.style == "shaded":
        light = 1 - np.hypot(x - thing.x + 0.4 * thing.extent, y - thing.y + 0.4 * thing.extent) / (
            2 * thing.extent
        )
        return base * np.clip(0.35 + light, 0.35, 1.15)[..., None]
    dark = _rgb("black") if thing.colour != "black" else _rgb("white")
    if thing.style == "outlined":
        inside = _cover(_polygons(thing.shape)[:1], thing, 0.8, size)
        return (dark + inside[..., None] * (base - dark)).astype(np.float32)
    raise ValueError(f"unknown style {thing.style!r} of a {thing.shape}")


def _edges(order: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 where a pixel's right or lower neighbour shows another thing."""
    edges = np.zeros_like(order)
    edges[:, :-1] = order[:, :-1] != order[:, 1:]
    edges[:-1] = np.maximum(edges[:-1], order[:-1] != order[1:])
    return edges


def _rgb(name: str) -> NDArray[np.float32]:
    return np.array(COLOURS[name], np.float32)


def _round(radius: float, n: int = 72) -> Points:
    a = np.arange(n) * 2 * np.pi / n
    return radius * np.stack([np.cos(a), np.sin(a)], 1)


def _star() -> Points:
    a = -np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return np.stack([radius * np.cos(a), radius * np.sin(a) + 0.05], 1)


def _heart(n: int = 72) -> Points:
    a = np.arange(n) * 2 * np.pi / n
    x = 16 * np.sin(a) ** 3
    y = 13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)
    return np.stack([x / 17, -(y + 2.5) / 15.5], 1)


def _plus(arm: float = 0.32) -> Points:
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([np.array(quarter) @ turn.T for turn in turns])


_TABLE: dict[str, list[Points]] = {
    "circle": [_round(0.95)],
    "square": [0.84 * np.array([(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)])],
    "triangle": [np.array([(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)])],
    "star": [_star()],
    "heart": [_heart()],
    "ring": [_round(0.98), _round(0.52)],
    "cross": [_plus()],
    "diamond": [np.array([(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)])],
}


def _polygons(shape: str) -> list[Points]:
    return _TABLE[shape]
