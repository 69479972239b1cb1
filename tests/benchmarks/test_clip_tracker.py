"""The tracker names the motion of clips that were drawn, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from sigmagraft.benchmarks.clip_figures import prompts, strip
from sigmagraft.benchmarks.clip_tracker import track
from sigmagraft.training.clip_latents import clip_at
from sigmagraft.training.draw import draw
from sigmagraft.training.motions import MOTIONS, clip_of
from sigmagraft.training.words import held_out


@pytest.mark.parametrize("motion", MOTIONS)
def test_drawn_motions_are_named(motion: str) -> None:
    for seed in range(6):
        scene = clip_at(0, seed, 2).frames[0]
        clip = clip_of(scene, motion, 8, np.random.default_rng(seed))
        frames = [draw(frame).image for frame in clip.frames]
        found = track(frames, scene.things[0].colour)
        assert found.motion() == motion
        assert track([frames[0]] * 8, scene.things[0].colour).motion() is None
        mixed = [frames[k] for k in (0, 7, 1, 6, 2, 5, 3, 4)]
        assert track(mixed, scene.things[0].colour).motion() is None
        rng = np.random.default_rng(seed)
        noise = [rng.integers(0, 255, (128, 128, 3), dtype=np.uint8) for _ in range(8)]
        assert track(noise, scene.things[0].colour).motion() is None


def test_an_object_that_is_gone_is_not_tracked() -> None:
    clip = clip_at(0, 1, 5)
    frames = [draw(frame).image for frame in clip.frames]
    other = next(
        c
        for c in ("red", "blue", "pink")
        if c not in (clip.frames[0].things[0].colour, *clip.frames[0].background.colours)
    )
    assert not track(frames, other).whole
    assert track(frames, other).motion() is None


def test_prompts_are_held_out_and_say_every_motion() -> None:
    found = prompts(50)
    assert {motion for _, motion, _ in found} == set(MOTIONS)
    for text, motion, prompt in found:
        thing, (ground,) = prompt.wanted.things[0], prompt.wanted.background
        assert held_out(thing.colour, thing.shape, ground)
        assert motion in text


def test_a_strip_has_a_row_for_each_clip() -> None:
    from PIL import Image

    assert strip([[Image.new("RGB", (8, 6))] * 16] * 3).size == (64, 18)
