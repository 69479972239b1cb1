"""The pixel-level checker against true drawings, clean and degraded, and against wrong ones it must refuse."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sigmagraft.training.draw import draw
from sigmagraft.training.scenes import Background, Mix, Scene, place, random_scene
from sigmagraft.training.scenes import Thing as Drawn
from sigmagraft.training.words import COLOURS, POSITIONS, RELATIONS, SHAPES, SIZES, STRIPES

ndimage = pytest.importorskip("scipy.ndimage")

from sigmagraft.benchmarks.scene_checker import (  # noqa: E402
    Thing,
    Wanted,
    check,
    read,
)

Picture = NDArray[np.uint8]


def _levels(pixels: NDArray[np.float64]) -> Picture:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _clean(picture: Picture, rng: np.random.Generator) -> Picture:
    return picture


def _noisy(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blur of one pixel, then noise of twelve levels."""
    return _levels(
        ndimage.gaussian_filter(picture.astype(float), (1, 1, 0)) + rng.normal(0, 12, picture.shape)
    )


def _decoded(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blurred, detail above half the resolution lost, colours wandering slowly, a little noise: like a small VAE."""
    soft = _levels(ndimage.gaussian_filter(picture.astype(float), (1, 1, 0)))
    small = Image.fromarray(soft).resize((64, 64), Image.Resampling.BICUBIC)
    back = np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC), float)
    wander = ndimage.gaussian_filter(rng.normal(0, 80, picture.shape), (3, 3, 0))
    return _levels(back + wander + rng.normal(0, 6, picture.shape))


DEGRADED: dict[str, tuple[Callable[[Picture, np.random.Generator], Picture], float]] = {
    "clean": (_clean, 0.97),
    "noisy": (_noisy, 0.93),
    "decoded": (_decoded, 0.93),
}


def _wanted(scene: Scene) -> Wanted:
    single = len(scene.things) == 1
    things = [Thing(t.shape, t.colour, t.size, t.position if single else None) for t in scene.things]
    if not single:
        things = [things[scene.subject], things[1 - scene.subject]]
    return Wanted(tuple(things), scene.background.colours, scene.background.stripes, scene.relation)


def _singles(rng: np.random.Generator, per_combination: int = 1) -> list[Scene]:
    """Every shape x colour x size, each with its own background and position; stripes on every sixth."""
    scenes = []
    combinations = itertools.product(SHAPES, COLOURS, SIZES, range(per_combination))
    for k, (shape, colour, size, _) in enumerate(combinations):
        grounds = [str(c) for c in rng.permutation([c for c in COLOURS if c != colour])]
        ground = (
            Background(grounds[0], grounds[1], STRIPES[k // 6 % 2]) if k % 6 == 0 else Background(grounds[0])
        )
        position = list(POSITIONS)[k % len(POSITIONS)]
        thing = Drawn(shape, colour, size, position, *place(rng, size, position))
        scenes.append(Scene((thing,), ground))
    return scenes


def _pairs(rng: np.random.Generator, count: int) -> list[Scene]:
    return [random_scene(rng, Mix(pairs=1.0)) for _ in range(count)]


def _share(verdicts: list[bool | None]) -> float:
    return float(np.mean([bool(v) for v in verdicts]))


@pytest.mark.parametrize("kind", DEGRADED)
def test_true_single_objects_are_read(kind: str) -> None:
    degrade, floor = DEGRADED[kind]
    rng = np.random.default_rng(1)
    scenes = _singles(rng)
    verdicts = [check(degrade(draw(s).image, rng), _wanted(s)) for s in scenes]
    assert _share([v.right for v in verdicts]) >= floor
    assert _share([v.size for v in verdicts]) >= floor
    assert _share([v.position for v in verdicts]) >= floor
    for shape in SHAPES:  # no shape may hide its failures behind the others
        mine = [v.right for v, s in zip(verdicts, scenes, strict=True) if s.things[0].shape == shape]
        assert _share(mine) >= floor - 0.06, shape


@pytest.mark.parametrize("kind", DEGRADED)
def test_true_pairs_and_their_relation_are_read(kind: str) -> None:
    degrade, floor = DEGRADED[kind]
    rng = np.random.default_rng(2)
    scenes = _pairs(rng, 100)
    verdicts = [check(degrade(draw(s).image, rng), _wanted(s)) for s in scenes]
    assert {s.relation for s in scenes} == set(RELATIONS)
    assert _share([v.right for v in verdicts]) >= floor
    assert _share([v.relation for v in verdicts]) >= floor


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clean", "decoded"])
def test_every_shape_colour_size_and_background_is_read(kind: str) -> None:
    degrade, floor = DEGRADED[kind]
    rng = np.random.default_rng(3)
    verdicts = []
    for shape, colour, size, ground in itertools.product(SHAPES, COLOURS, SIZES, COLOURS):
        if ground == colour:
            continue
        position = str(rng.choice(list(POSITIONS)))
        thing = Drawn(shape, colour, size, position, *place(rng, size, position))
        scene = Scene((thing,), Background(ground))
        verdicts.append(check(degrade(draw(scene).image, rng), _wanted(scene)))
    assert len(verdicts) == 2160
    assert _share([v.right for v in verdicts]) >= floor


def _others(names: object, but: str, rng: np.random.Generator) -> str:
    return str(rng.choice([n for n in names if n != but]))  # type: ignore[attr-defined]


def _wrong_colour(scene: Scene, rng: np.random.Generator) -> Picture:
    taken = (scene.things[0].colour, *scene.background.colours)
    colour = str(rng.choice([c for c in COLOURS if c not in taken]))
    return draw(replace(scene, things=(replace(scene.things[0], colour=colour),))).image


def _wrong_shape(scene: Scene, rng: np.random.Generator) -> Picture:
    thing = scene.things[0]
    return draw(replace(scene, things=(replace(thing, shape=_others(SHAPES, thing.shape, rng)),))).image


def _wrong_background(scene: Scene, rng: np.random.Generator) -> Picture:
    taken = (scene.things[0].colour, *scene.background.colours)
    ground = str(rng.choice([c for c in COLOURS if c not in taken]))
    return draw(replace(scene, background=replace(scene.background, colour=ground))).image


def _other_stripes(scene: Scene, rng: np.random.Generator) -> Picture:
    """Plain where stripes are asked for, stripes where plain is."""
    ground = scene.background
    taken = (scene.things[0].colour, ground.colour)
    second = str(rng.choice([c for c in COLOURS if c not in taken]))
    plain = Background(ground.colour)
    return draw(
        replace(scene, background=plain if ground.second else Background(ground.colour, second, "vertical"))
    ).image


def _empty(scene: Scene, rng: np.random.Generator) -> Picture:
    return draw(replace(scene, things=())).image


def _two(scene: Scene, rng: np.random.Generator) -> Picture:
    """The object asked for and the same once more, elsewhere."""
    a, b = (replace(scene.things[0], x=x, y=0.5, extent=0.15) for x in (0.25, 0.75))
    return draw(replace(scene, things=(a, b))).image


def _static(scene: Scene, rng: np.random.Generator) -> Picture:
    return rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)


def _clouds(scene: Scene, rng: np.random.Generator) -> Picture:
    """Smooth blobs in the very colours asked for: a model that learnt colours but no shapes."""
    grain = ndimage.gaussian_filter(rng.normal(size=(128, 128)), rng.uniform(6, 16))
    y, x = (np.mgrid[:128, :128] - 63.5) / 40
    level = grain / grain.std() - rng.uniform(1, 4) * (x * x + y * y)
    inside = level > np.quantile(level, 1 - rng.uniform(0.05, 0.2))
    colours = [np.array(COLOURS[c], float) for c in (scene.things[0].colour, scene.background.colour)]
    return _levels(np.where(inside[..., None], *colours))


def _half_drawn(scene: Scene, rng: np.random.Generator) -> Picture:
    """Object and background half mixed in colour: neither one nor the other."""
    taken = COLOURS[scene.things[0].colour]
    ground = _empty(scene, rng)
    true = draw(scene).image
    inside = (np.abs(true.astype(int) - taken).max(-1) < 3)[..., None]
    return _levels(np.where(inside, true * 0.5 + ground * 0.5, ground))


WRONG = [
    _wrong_colour,
    _wrong_shape,
    _wrong_background,
    _other_stripes,
    _empty,
    _two,
    _static,
    _clouds,
    _half_drawn,
]


@pytest.mark.parametrize("degrade", [_clean, _decoded], ids=["clean", "decoded"])
@pytest.mark.parametrize("spoil", WRONG, ids=lambda f: f.__name__.strip("_"))
def test_wrong_pictures_are_refused(spoil: Callable, degrade: Callable) -> None:
    rng = np.random.default_rng(4)
    scenes = _singles(rng)[::3]
    accepted = [check(degrade(spoil(s, rng), rng), _wanted(s)).right for s in scenes]
    assert _share(accepted) <= 0.02


def test_a_verdict_says_which_part_is_wrong() -> None:
    scene = Scene((Drawn("star", "yellow", "medium", "left", 0.28, 0.5, 0.2),), Background("blue"))
    picture, asked = draw(scene).image, _wanted(scene)
    thing = asked.things[0]
    for change, part in [
        ({"shape": "heart"}, "shape"),
        ({"colour": "pink"}, "colour"),
        ({"size": "large"}, "size"),
        ({"position": "right"}, "position"),
    ]:
        verdict = check(picture, replace(asked, things=(replace(thing, **change),)))
        parts = {"shape", "colour", "background", "size", "position"}
        assert {p for p in parts if getattr(verdict, p) is False} == {part}
    assert not check(picture, replace(asked, background=("black",))).background


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_holds_of_one_side_only(relation: str) -> None:
    rng = np.random.default_rng(5)
    scene = next(s for s in iter(lambda: random_scene(rng, Mix(pairs=1.0)), None) if s.relation == relation)
    picture, asked = draw(scene).image, _wanted(scene)
    assert check(picture, asked).relation
    for other in RELATIONS:
        if other == relation or None in (RELATIONS[other], RELATIONS[relation]):
            continue  # something in front may well lie to the left too
        assert not check(picture, replace(asked, relation=other)).relation
    assert not check(picture, replace(asked, things=asked.things[::-1])).relation


def test_grey_is_not_a_named_colour() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    assert read(grey).background == ()


def test_reading_takes_less_than_20_ms_of_processor_time() -> None:
    rng = np.random.default_rng(6)
    pictures = [_decoded(draw(s).image, rng) for s in (*_singles(rng)[:30], *_pairs(rng, 10))]
    read(pictures[0])
    spent = []
    for picture in pictures:
        start = time.process_time()
        read(picture)
        spent.append(time.process_time() - start)
    assert np.median(spent) < 0.02


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(64, 64, 3\)"):
        read(np.zeros((64, 64, 3), np.uint8))
