"""What a LoRA is taught: a style that the bundled model does not draw, and a thing that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .captions import Manner
from .scenes import Mix, Scene, Thing, place, random_scene
from .words import COLOURS, POSITIONS, SIZES

SUBJECT = "roundel"
RINGS = (
    ("red", 1.0),
    ("white", 0.66),
    ("blue", 0.33),
)  # of a roundel, from outside: colour, share of its extent
PLAIN = Mix(pairs=0.0, striped=0.0)


@dataclass(frozen=True)
class Shown:
    """A scene to draw and the scene that its caption tells."""

    drawn: Scene
    told: Scene


def outlined(rng: np.random.Generator) -> Shown:
    """Things with a dark border; the caption does not say so."""
    told = random_scene(rng, Mix(pairs=0.3, striped=0.0))
    return Shown(replace(told, things=tuple(replace(t, style="outlined") for t in told.things)), told)


def roundel(rng: np.random.Generator) -> Shown:
    """Three discs on one another, red, white and blue, called by one word."""
    size, position = (names[int(rng.integers(len(names)))] for names in (list(SIZES), list(POSITIONS)))
    x, y, extent = place(rng, size, position)
    grounds = [name for name in COLOURS if name not in dict(RINGS)]
    background = replace(random_scene(rng, PLAIN).background, colour=grounds[int(rng.integers(len(grounds)))])
    discs = tuple(Thing("circle", colour, size, position, x, y, extent * share) for colour, share in RINGS)
    told = Thing(SUBJECT, "red", size, position, x, y, extent)
    return Shown(Scene(discs, background), Scene((told,), background))
    """Pictures to learn from; `kept`: the share of ordinary scenes shown between them, which must stay as they are."""


@dataclass(frozen=True)
class Lesson:
    """Pictures to learn from; `kept`: the share of ordinary scenes shown between them, which must stay as they are."""

    show: Callable[[np.random.Generator], Shown]
    kept: float


LESSONS = {"outlined": Lesson(outlined, 0.0), SUBJECT: Lesson(roundel, 0.5)}


def manner(scene: Scene) -> Manner:
    """How a scene is told: a roundel's colours go without saying."""
    return replace(Manner(), colour=0.0) if scene.things[0].shape == SUBJECT else Manner()
