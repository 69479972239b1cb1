"""Scenes that move: one object that goes in a direction, grows or shrinks, frame by frame, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .captions import Manner, Piece, caption
from .scenes import MARGIN, Mix, Scene, random_scene
from .words import SIZES

# words -> direction on the picture, or factor from the first frame's extent to the last one's
DIRECTIONS: dict[str, tuple[int, int]] = {
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}
GROWTH: dict[str, bool] = {"growing": True, "shrinking": False}
MOTIONS = (*DIRECTIONS, *GROWTH)
SINGLE = Mix(pairs=0.0, striped=0.12)
UNPLACED = Manner(place=0.0)
REACH = (0.7, 1.0)  # of the free room, to either side: a walk goes nearly from border to border
LEAST, MOST = SIZES["small"] * 0.85, SIZES["large"]


@dataclass(frozen=True)
class MovingScene:
    """The frames of a clip, and the words for what happens in it."""

    frames: tuple[Scene, ...]
    motion: str


def random_clip(rng: np.random.Generator, frames: int) -> MovingScene:
    """A scene of one object, none of those held out, and a motion."""
    return clip_of(random_scene(rng, SINGLE), str(rng.choice(MOTIONS)), frames, rng)


def clip_of(scene: Scene, motion: str, frames: int, rng: np.random.Generator) -> MovingScene:
    """A scene's object in motion: at constant speed, or from small to large or back."""
    (thing,) = scene.things
    shares = np.linspace(0.0, 1.0, frames)
    if motion in GROWTH:
        extents = np.geomspace(LEAST, MOST, frames)[:: 1 if GROWTH[motion] else -1]
        room = 0.5 - MARGIN - MOST
        x, y = (0.5 + room * rng.uniform(-1, 1) for _ in range(2))
        things = [replace(thing, x=x, y=y, extent=float(extent)) for extent in extents]
    else:
        room = 0.5 - MARGIN - thing.extent
        ends = [room * rng.uniform(*REACH) for _ in range(2)]
        across = 0.5 + room * rng.uniform(-0.5, 0.5)
        things = []
        for share in shares:
            along = float(-ends[0] + share * (ends[0] + ends[1]))
            dx, dy = DIRECTIONS[motion]
            x, y = (0.5 + d * along if d else across for d in (dx, dy))
            things.append(replace(thing, x=x, y=y))
    return MovingScene(tuple(replace(scene, things=(moved,)) for moved in things), motion)


def clip_caption(clip: MovingScene, rng: np.random.Generator) -> list[Piece]:
    """A caption of the scene without places, and after its object what it does."""
    pieces = caption(clip.frames[len(clip.frames) // 2], rng, UNPLACED)
    pieces = [piece for piece in pieces if piece.said != ("position",)]
    at = next(k for k, piece in enumerate(pieces) if piece.about == 0)
    return [*pieces[: at + 1], Piece(clip.motion, 0), *pieces[at + 1 :]]
