"""Scenes: up to two flat objects on a background, drawn from a seed, with the full truth about each picture.

A Scene says everything needed to draw it; `draw` gives the picture and its truth (masks, edges, depth order).
Objects are listed back to front. Nothing here draws captions: see captions.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .words import COLOURS, POSITIONS, RELATIONS, SHAPES, SIZE_JITTER, SIZES, STRIPES, held_out

MARGIN = 0.02  # nothing is drawn nearer to the border, so every object is whole
OVERLAP = (0.75, 1.0)  # distance of overlapping centres in units of the mean half extent


@dataclass(frozen=True)
class Thing:
    """One object; x, y, extent are fractions of the picture's side, `position` is the word for where it is."""

    shape: str
    colour: str
    size: str
    position: str
    x: float
    y: float
    extent: float
    style: str = "flat"


@dataclass(frozen=True)
class Background:
    """A plain colour, or bands of `colour` and `second` in direction `stripes`."""

    colour: str
    second: str | None = None
    stripes: str | None = None

    @property
    def colours(self) -> tuple[str, ...]:
        return (self.colour,) if self.second is None else (self.colour, self.second)


@dataclass(frozen=True)
class Scene:
    """Things back to front; for two things `relation` holds of `subject` (index into things) and the other one."""

    things: tuple[Thing, ...]
    background: Background
    relation: str | None = None
    subject: int = 0


@dataclass(frozen=True)
class Mix:
    """Shares of what random scenes hold."""

    pairs: float = 0.5
    striped: float = 0.15
    styles: tuple[str, ...] = ("flat",)


def random_scene(rng: np.random.Generator, mix: Mix = Mix()) -> Scene:
    """A scene none of whose colour / shape / background triples is held out."""
    while True:
        scene = _pair(rng, mix) if rng.random() < mix.pairs else _single(rng, mix)
        if not scene_held_out(scene):
            return scene


def scene_held_out(scene: Scene) -> bool:
    """True if any object on any of the background's colours is a combination kept for testing."""
    return any(held_out(t.colour, t.shape, b) for t in scene.things for b in scene.background.colours)


def place(rng: np.random.Generator, size: str, position: str) -> tuple[float, float, float]:
    """x, y and half extent of an object of this size at this position, with a little jitter."""
    extent = SIZES[size] * (1 + SIZE_JITTER * rng.uniform(-1, 1))
    room = 0.5 - MARGIN - extent
    dx, dy = (
        d * room * rng.uniform(0.75, 1) if d else room * rng.uniform(-0.12, 0.12) for d in POSITIONS[position]
    )
    return 0.5 + dx, 0.5 + dy, extent


def moving(scene: Scene, frames: int, rng: np.random.Generator) -> list[Scene]:
    """The scene in motion: every object goes on a straight line to another free place; entry k is frame k.

    Tracks are the x and y of the things over the frames.
    """
    ends = []
    for thing in scene.things:
        room = 0.5 - MARGIN - thing.extent
        ends.append(0.5 + room * rng.uniform(-1, 1, size=2))
    result = []
    for t in np.linspace(0.0, 1.0, frames):
        things = tuple(
            replace(a, x=float((1 - t) * a.x + t * e[0]), y=float((1 - t) * a.y + t * e[1]))
            for a, e in zip(scene.things, ends, strict=True)
        )
        result.append(replace(scene, things=things))
    return result


def _background(rng: np.random.Generator, mix: Mix) -> Background:
    if rng.random() >= mix.striped:
        return Background(_pick(rng, COLOURS))
    first, second = rng.permutation(list(COLOURS))[:2]
    return Background(str(first), str(second), _pick(rng, STRIPES))


def _single(rng: np.random.Generator, mix: Mix) -> Scene:
    background = _background(rng, mix)
    size, position = _pick(rng, SIZES), _pick(rng, POSITIONS)
    x, y, extent = place(rng, size, position)
    colour = _pick(rng, [c for c in COLOURS if c not in background.colours])
    thing = Thing(_pick(rng, SHAPES), colour, size, position, x, y, extent, _pick(rng, mix.styles))
    return Scene((thing,), background)


def _pair(rng: np.random.Generator, mix: Mix) -> Scene:
    background = _background(rng, mix)
    colours = [str(c) for c in rng.permutation([c for c in COLOURS if c not in background.colours])[:2]]
    style = _pick(rng, mix.styles)
    relation = _pick(rng, RELATIONS)
    direction = RELATIONS[relation]
    spots = _overlapping(rng) if direction is None else _apart(rng, direction)
    shapes = [_pick(rng, SHAPES), _pick(rng, SHAPES)]
    things = tuple(
        Thing(shape, colour, *spot, style) for shape, colour, spot in zip(shapes, colours, spots, strict=True)
    )
    return Scene(things, background, relation, subject=1)


def _apart(
    rng: np.random.Generator, direction: tuple[int, int]
) -> list[tuple[str, str, float, float, float]]:
    """Places of (the other, the subject): the subject lies in `direction` of the other."""
    names = {offset: name for name, offset in POSITIONS.items()}
    spots = []
    for sign in (-1, 1):
        size = _pick(rng, ["small", "medium"])
        offset = (sign * direction[0], sign * direction[1])
        x, y, extent = place(rng, size, names[offset])
        # Half extents reach 0.22, so centres at 0.26 from the middle keep the two apart and inside.
        along = 0.26 * rng.uniform(0.95, 1.0)
        x, y = (0.5 + o * along if o else v for o, v in zip(offset, (x, y), strict=True))
        spots.append((size, names[offset], x, y, extent))
    return spots


def _overlapping(rng: np.random.Generator) -> list[tuple[str, str, float, float, float]]:
    """Places of (the one behind, the one in front): near the centre, partly overlapping."""
    angle = rng.uniform(0, 2 * np.pi)
    sizes = [_pick(rng, ["medium", "large"]), _pick(rng, ["small", "medium"])]
    extents = [SIZES[s] * (1 + SIZE_JITTER * rng.uniform(-1, 1)) for s in sizes]
    distance = rng.uniform(*OVERLAP) * sum(extents) / 2
    spots = []
    for sign, size, extent in zip((-1, 1), sizes, extents, strict=True):
        x = 0.5 + sign * 0.5 * distance * float(np.cos(angle))
        y = 0.5 + sign * 0.5 * distance * float(np.sin(angle))
        spots.append((size, "centre", x, y, extent))
    return spots


def _pick(rng: np.random.Generator, names: Iterable[str]) -> str:
    names = list(names)
    return str(names[int(rng.integers(len(names)))])
