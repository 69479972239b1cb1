"""The benchmark of the bundled model: its figures on drawing programs of known worth, and the model's own floors."""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sigmagraft.standalone.source import BUNDLED
from sigmagraft.training.draw import draw
from sigmagraft.training.scenes import Background, Mix, Scene, place, random_scene
from sigmagraft.training.scenes import Thing as Drawn
from sigmagraft.training.words import COLOURS, POSITIONS, RELATIONS, SHAPES, held_out

pytest.importorskip("scipy.ndimage")

from sigmagraft.benchmarks import bundled_model, scene_figures, scene_prompts

Picture = NDArray[np.uint8]


def _parse(text: str) -> Scene:
    """The scene of one of the benchmark's prompts, read from its words alone."""
    body, ground = text.removesuffix(" background").rsplit(" on ", 1)
    words = ground.replace("a ", "", 1).replace("an ", "", 1).split()
    background = Background(words[0]) if len(words) == 1 else Background(words[0], words[2], words[3])
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    for relation in RELATIONS:
        if f" {relation} " in body:
            return _pair(body.split(f" {relation} "), relation, background, rng)
    return Scene((_thing(body, rng),), background)


def _thing(text: str, rng: np.random.Generator) -> Drawn:
    nouns, place_words = text, ""
    for joint in (" on the ", " at the ", " in the "):
        if joint in text:
            nouns, place_words = text.split(joint)
    words = nouns.split()[1:]
    size = words.pop(0) if words[0] in ("small", "medium", "large") else "medium"
    colour = words.pop(0) if words[0] in COLOURS else "red"
    position = place_words or "centre"
    return Drawn(words[0], colour, size, position, *place(rng, size, position))


def _pair(texts: list[str], relation: str, background: Background, rng: np.random.Generator) -> Scene:
    first, second = (_thing(t, rng) for t in texts)
    while True:  # a true scene of this relation lends its places
        scene = random_scene(rng, Mix(pairs=1.0))
        if scene.relation == relation:
            break
    behind, front = (
        Drawn(t.shape, t.colour, p.size, p.position, p.x, p.y, p.extent)
        for t, p in zip((second, first), scene.things, strict=True)
    )
    return Scene((behind, front), background, relation, subject=1)


def _perfect(prompts: list[str], seeds: list[int], **settings: Any) -> list[Picture]:
    """Draws what the words say; without a colour any but the negative one; img2img and masks as they should be."""
    pictures = []
    for k, text in enumerate(prompts):
        negative = settings.get("negative", [""] * len(prompts))[k]
        if not any(f"{c} " in text.split(" on ")[0] for c in COLOURS):
            text = text.replace("a ", f"a {'green' if negative == 'red' else 'red'} ", 1)
        scene = _parse(text)
        if "position" not in settings and len(scene.things) == 1 and " the " not in text:
            scene = _elsewhere(scene, seeds[k])
        pictures.append(draw(scene).image)
    image, mask = settings.get("image"), settings.get("mask")
    if mask is not None:
        pictures = [np.asarray(Image.composite(Image.fromarray(p), image, mask)) for p in pictures]
    elif image is not None and settings["strength"] < 0.9:
        pictures = [np.asarray(image)]
    return pictures


def _elsewhere(scene: Scene, seed: int) -> Scene:
    thing = scene.things[0]
    rng = np.random.default_rng(seed)
    position = str(rng.choice(list(POSITIONS)))
    spot = place(rng, thing.size, position)
    return Scene((Drawn(thing.shape, thing.colour, thing.size, position, *spot),), scene.background)


def _lazy(prompts: list[str], seeds: list[int], **settings: Any) -> list[Picture]:
    """The same picture whatever is asked."""
    return [draw(_parse("a red circle on a blue background")).image for _ in prompts]


def _percents(report: bundled_model.Report) -> dict[str, float]:
    return {f"{heading}: {f.name}": f.percent for heading, fs in report.figures.items() for f in fs}


def test_a_perfect_drawer_gets_full_marks() -> None:
    report = bundled_model.measure(_perfect, bundled_model.QUICK, 0)
    percents = _percents(report)
    # Shapes cut by the mask's edge aside, everything a drawing program does is right.
    assert min(percents.values()) >= 90, percents
    assert percents["inpainting: outside the mask: every pixel kept"] == 100
    assert json.loads(json.dumps(report.as_dict()))["figures"]


def test_a_drawer_that_does_not_listen_gets_none() -> None:
    percents = _percents(bundled_model.measure(_lazy, bundled_model.QUICK, 0))
    size = next(name for name in percents if name.endswith("size, where said"))
    assert percents.pop(size) <= 50  # a third by chance
    assert max(percents.values()) <= 15, percents


@pytest.mark.parametrize("hits", [0, 1, 13, 20])
def test_interval_is_where_the_score_test_turns(hits: int) -> None:
    figure = scene_figures.Figure("x", hits, 20)
    for end in figure.interval:
        p = end / 100
        if 0 < p < 1:  # Wilson: the ends are the p at which (hits/n - p)^2 = z^2 p (1 - p) / n
            assert (hits / 20 - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / 20, rel=1e-6, abs=1e-12)
    assert figure.interval[0] <= figure.percent + 1e-9
    assert figure.percent <= figure.interval[1] + 1e-9


def test_prompts_are_held_out_and_cover_everything() -> None:
    prompts = scene_prompts.singles(200)
    things = [(p.wanted.things[0], p.wanted.background) for p in prompts]
    assert all(any(held_out(t.colour, t.shape, b) for b in ground) for t, ground in things)
    assert {t.shape for t, _ in things} == set(SHAPES)
    assert {t.colour for t, _ in things} == set(COLOURS)
    assert len({p.text for p in prompts}) > 150
    pairs = scene_prompts.pairs(100)
    assert {p.wanted.relation for p in pairs} == set(RELATIONS)
    assert all(
        any(held_out(t.colour, t.shape, p.wanted.background[0]) for t in p.wanted.things) for p in pairs
    )


def test_a_word_changed_is_one_word() -> None:
    for a, b, part in scene_prompts.twins(12):
        differing = [x for x, y in zip(a.text.split(), b.text.split(), strict=True) if x != y]
        assert [w for w in differing if w not in ("a", "an")], part
        assert len([w for w in differing if w not in ("a", "an")]) == 1


# Well below what the shipped file reaches on 200 prompts (72 % all right, 92 % colour, 92 % background, 88 % nearest
# shape, 60 % both objects), so they catch a broken loader or sampler, not chance. The aim is 90 % all right: raise them
# with the model.
FLOORS = {
    "colour": 60,
    "background": 70,
    "all three right": 35,
    "nearest shape, however rough": 50,
    "one word changed: both pictures follow": 70,
    "both objects": 20,
    "another seed: another picture": 75,
    "negative prompt: its colour goes": 50,
    "strength 0.3: object and layout kept": 75,
    "outside the mask: every pixel kept": 100,
}
FEW = bundled_model.Counts(8, 2, 8, 2)  # a picture takes the better part of a second


@pytest.fixture(scope="module")
def bundled_percents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    if not BUNDLED.exists():
        pytest.skip(f"{BUNDLED.name} is not in standalone/assets: python -m training makes it")
    sheet = tmp_path_factory.mktemp("bundled") / "sheet.png"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled_model, "QUICK", FEW)
        assert bundled_model.main(["--quick", "--json", "--sheet", str(sheet)]) == 0
    assert Image.open(sheet).width > 1000
    figures = json.loads(printed.getvalue())["figures"]
    return {name: f["percent"] for heading in figures.values() for name, f in heading.items()}


@pytest.mark.parametrize("name", FLOORS)
def test_the_bundled_model_does_what_it_is_asked(name: str, bundled_percents: dict[str, float]) -> None:
    assert bundled_percents[name] >= FLOORS[name], bundled_percents
