"""Scenes come out of their seed alone, and their truth is what was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from sigmagraft.training.draw import coverage, draw
from sigmagraft.training.scenes import Mix, Scene, moving, random_scene, scene_held_out
from sigmagraft.training.words import COLOURS, RELATIONS, SHAPES, SIZES, STYLES, held_out

EVERYTHING = Mix(pairs=0.6, striped=0.3, styles=STYLES)


def scenes(count: int, mix: Mix = EVERYTHING) -> list[Scene]:
    return [random_scene(np.random.default_rng((3, i)), mix) for i in range(count)]


def test_the_same_seed_gives_the_same_scene_and_picture():
    once, again = scenes(5), scenes(5)
    assert once == again
    for a, b in zip(once, again, strict=True):
        assert np.array_equal(draw(a).image, draw(b).image)
    assert len({str(s) for s in once}) == 5


def test_objects_differ_in_colour_from_each_other_and_the_background_and_are_not_held_out():
    for scene in scenes(300):
        colours = [t.colour for t in scene.things] + list(scene.background.colours)
        assert len(set(colours)) == len(colours)
        assert not scene_held_out(scene)


def test_a_tenth_is_held_out_and_every_pair_of_words_is_trained():
    triples = [(c, s, b) for c in COLOURS for s in SHAPES for b in COLOURS if c != b]
    kept = [t for t in triples if not held_out(*t)]
    assert 0.05 < 1 - len(kept) / len(triples) < 0.15
    assert {(c, s) for c, s, _ in kept} == {(c, s) for c in COLOURS for s in SHAPES}
    assert {(c, b) for c, _, b in kept} == {(c, b) for c in COLOURS for b in COLOURS if c != b}
    assert {(s, b) for _, s, b in kept} == {(s, b) for s in SHAPES for b in COLOURS}


@pytest.mark.parametrize(
    "scene", scenes(12, Mix(pairs=0.6, striped=0.3)), ids=lambda s: "+".join(t.shape for t in s.things)
)
def test_masks_show_the_pixels_of_each_object(scene: Scene):
    truth = draw(scene)
    assert truth.masks.shape == (len(scene.things), 128, 128)
    assert truth.masks.sum(axis=0).max() <= 1 + 1e-5
    for thing, mask in zip(scene.things, truth.masks, strict=True):
        assert mask.sum() > 50
        assert np.all(truth.image[mask > 0.999] == COLOURS[thing.colour])
    bare = truth.masks.sum(axis=0) == 0
    allowed = {COLOURS[c] for c in scene.background.colours}
    assert {tuple(p) for p in truth.image[bare].tolist()} <= allowed


def test_objects_are_whole_and_as_large_as_said():
    for scene in scenes(60):
        for thing in scene.things:
            cover = coverage(thing, 128)
            assert cover[[0, -1]].max() == 0
            assert cover[:, [0, -1]].max() == 0
            rows = np.flatnonzero(cover.max(axis=1) > 0.5)
            assert abs((rows[-1] - rows[0] + 1) / 256 - SIZES[thing.size]) < 0.25 * SIZES[thing.size]


def test_relations_hold_of_the_drawn_objects():
    seen = set()
    for scene in scenes(120, Mix(pairs=1.0)):
        subject, other = scene.things[scene.subject], scene.things[1 - scene.subject]
        direction = RELATIONS[str(scene.relation)]
        covers = [coverage(t, 128) for t in (subject, other)]
        overlap = float((covers[0] * covers[1]).sum())
        if direction is None:
            assert scene.subject == 1, "the object in front is drawn last"
        else:
            assert overlap < 1
            assert (subject.x - other.x) * direction[0] + (subject.y - other.y) * direction[1] > 0.3
        seen.add(scene.relation)
    assert seen == set(RELATIONS)


def test_depth_order_and_edges_follow_what_is_visible():
    scene = next(s for s in scenes(60, Mix(pairs=1.0)) if s.relation == "in front of")
    truth = draw(scene)
    assert set(np.unique(truth.order)) == {0.0, 0.5, 1.0}
    front = coverage(scene.things[1], 128) > 0.5
    assert np.all(truth.order[front] == 1.0)
    inside = truth.edges == 0
    assert np.all((truth.order[:, :-1] == truth.order[:, 1:]) | ~inside[:, :-1])
    assert truth.edges.any()


def test_motion_starts_at_the_scene_goes_straight_and_stays_inside():
    scene = scenes(1, Mix(pairs=1.0))[0]
    frames = moving(scene, 8, np.random.default_rng(0))
    assert frames[0] == scene
    track = np.array([[(t.x, t.y) for t in f.things] for f in frames])
    assert np.allclose(np.diff(track, n=2, axis=0), 0, atol=1e-9)
    assert np.abs(np.diff(track, axis=0)).sum() > 0
    for frame in frames:
        for thing in frame.things:
            assert coverage(thing, 128)[[0, -1]].max() == 0


@pytest.mark.parametrize("style", STYLES)
def test_styles_change_the_surface_but_not_the_shape(style: str):
    flat = scenes(1, Mix(pairs=0.0, striped=0.0))[0]
    styled = random_scene(np.random.default_rng((3, 0)), Mix(pairs=0.0, striped=0.0, styles=(style,)))
    a, b = draw(flat), draw(styled)
    assert np.array_equal(a.masks, b.masks)
    assert np.array_equal(a.image, b.image) == (style == "flat")
