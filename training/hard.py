"""Which scenes a trained model still draws badly, and how much oftener to show them.

Told by the checker from 100 held-out prompts of the model after 22,600 steps: circles, triangles, hearts and rings
were right in 98 %, stars in 37 %, squares and crosses in 60 %, diamonds in 77 %; on striped grounds bands of both
directions met, and small objects with corners ran together.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .scenes import Scene

SHAPES = {"star": 2.5, "square": 1.5, "cross": 1.5, "diamond": 1.4}
SMALL = 1.5
STRIPED = 3.0


def weight(scene: Scene) -> float:
    """How many times as often as an easy scene this one is shown."""
    objects = [SHAPES.get(t.shape, 1.0) * (SMALL if t.size == "small" else 1.0) for t in scene.things]
    return float(np.mean(objects)) * (STRIPED if scene.background.stripes else 1.0)


def chances(scenes: Iterable[Scene]) -> NDArray[np.float64]:
    """The chance of each scene to be drawn next."""
    weights = np.array([weight(scene) for scene in scenes])
    return weights / weights.sum()
