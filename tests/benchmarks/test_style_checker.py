"""The checkers of style and subject say yes to true drawings and no to others."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy.ndimage")

from sigmagraft.benchmarks.style_checker import outlined, roundel
from sigmagraft.training.draw import draw
from sigmagraft.training.lessons import LESSONS, SUBJECT
from sigmagraft.training.scenes import Mix, random_scene


def test_outlines_are_told_from_flat_things() -> None:
    rng = np.random.default_rng(0)
    right, wrong = [], []
    for _ in range(60):
        shown = LESSONS["outlined"].show(rng)
        if len(shown.told.things) == 1:
            colour = shown.told.things[0].colour
            right.append(outlined(draw(shown.drawn).image, colour))
            if shown.told.background.colour not in ("black", "white"):
                wrong.append(outlined(draw(shown.told).image, colour))
    assert np.mean(right) >= 0.9
    assert not any(wrong)


def test_roundels_are_told_from_everything_else() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([roundel(draw(LESSONS[SUBJECT].show(rng).drawn).image) for _ in range(40)]) >= 0.9
    assert not any(roundel(draw(random_scene(rng, Mix(pairs=0.5))).image) for _ in range(80))
