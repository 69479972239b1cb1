"""The figures of a model that draws scenes: what is right, what changes, what is kept.

Every function takes a Draw, `draw(prompts, seeds, **settings) -> pictures`, and answers Figures, so that a test can
put a drawing program with known faults in the model's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..training.words import COLOURS, SHAPES
from .scene_checker import SIDE, Reading, Thing, Verdict, Wanted, judge, nearest_colours, read
from .scene_prompts import Prompt, pairs, singles, twins

Picture = NDArray[np.uint8]
Draw = Callable[..., list[Picture]]

KEPT_SHIFT, KEPT_SCALE = 0.04, 1.15  # how far a kept object may move (of the side) and grow or shrink
LOW, MIDDLE, HIGH = 0.3, 0.6, 0.95  # strengths of img2img
MOVED = 3.0  # mean distance in levels beyond which two pictures differ


@dataclass(frozen=True)
class Figure:
    """`hits` of `count`; low and high end Wilson's 95 % interval."""

    name: str
    hits: int
    count: int

    @property
    def percent(self) -> float:
        """Hits in percent; nan without trials."""
        return 100 * self.hits / self.count if self.count else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval in percent (Wilson 1927, JASA 22): centre (p + z^2/2n) / (1 + z^2/n)."""
        if not self.count:
            return 0.0, 100.0
        z, n, p = 1.96, self.count, self.hits / self.count
        middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
        return 100 * max(low, 0.0), 100 * min(high, 1.0)


@dataclass(frozen=True)
class Judged:
    """A prompt, its picture and the verdict."""

    prompt: Prompt
    picture: Picture
    found: Reading
    verdict: Verdict


def verdicts(prompts: Sequence[Prompt], pictures: Sequence[Picture]) -> list[Judged]:
    """Each picture read and compared with its prompt."""
    found = [read(picture) for picture in pictures]
    rows = zip(prompts, pictures, found, strict=True)
    return [Judged(prompt, picture, what, judge(what, prompt.wanted)) for prompt, picture, what in rows]


def judged(draw: Draw, prompts: Sequence[Prompt], seed: int) -> list[Judged]:
    """One picture a prompt, seeds counting up from `seed`."""
    return verdicts(prompts, draw([p.text for p in prompts], [seed + k for k in range(len(prompts))]))


def single_objects(draw: Draw, count: int, seed: int) -> tuple[list[Figure], list[Judged]]:
    """Shares of held-out one-object prompts of which each part is right."""
    rows = judged(draw, singles(count), seed)
    parts = {
        "shape": "shape",
        "colour": "colour",
        "background": "background",
        "all three right": "right",
        "size, where said": "size",
        "position, where said": "position",
    }
    figures = [_share(name, rows, part) for name, part in parts.items()]
    likest = Figure("nearest shape, however rough", sum(map(_likest, rows)), len(rows))
    return [*figures, likest], rows


def _likest(row: Judged) -> bool:
    """Is the one object more like the shape asked for than like any other? Says how far a model still has to go."""
    blobs = row.found.blobs
    return len(blobs) == 1 and blobs[0].fit.shape == row.prompt.wanted.things[0].shape


def two_objects(draw: Draw, count: int, seed: int) -> tuple[list[Figure], list[Judged]]:
    """Shares of two-object prompts with both objects, the relation, the background right."""
    rows = judged(draw, pairs(count), seed)
    parts = {
        "both objects": "objects",
        "their background": "background",
        "both objects and background": "right",
        "both objects and relation": "relation",
    }
    return [_share(name, rows, part) for name, part in parts.items()], rows


def changes(draw: Draw, count: int, seed: int) -> list[Figure]:
    """Does the picture change with one word of the prompt, with the seed, and away from the negative prompt?"""
    asked = twins(count)
    seeds = [seed + k for k in range(count)]
    first = draw([a.text for a, _, _ in asked], seeds)
    second = draw([b.text for _, b, _ in asked], seeds)
    followed = sum(
        bool(getattr(judge(read(x), a.wanted), part) and getattr(judge(read(y), b.wanted), part))
        for (a, b, part), x, y in zip(asked, first, second, strict=True)
    )
    free = [Prompt.of(replace(a.wanted, things=(_free(a.wanted.things[0]),))).text for a, _, _ in asked]
    here, there = draw(free, seeds), draw(free, [s + 10_000 for s in seeds])
    moved = sum(distance(x, y) > MOVED for x, y in zip(here, there, strict=True))
    return [
        Figure("one word changed: both pictures follow", followed, count),
        Figure("another seed: another picture", moved, count),
        *_negative(draw, count, seed),
    ]


def _free(thing: Thing) -> Thing:
    return replace(thing, size=None, position=None)


def _negative(draw: Draw, count: int, seed: int) -> list[Figure]:
    """Draw without saying the colour, then once more with the colour that came as the negative prompt."""
    shapes = [SHAPES[k % len(SHAPES)] for k in range(count)]
    grounds = [("white", "black")[k % 2] for k in range(count)]
    texts = [f"a {s} on a {g} background" for s, g in zip(shapes, grounds, strict=True)]
    seeds = [seed + 20_000 + k for k in range(count)]
    before = [_colour(p) for p in draw(texts, seeds)]
    known = [k for k, colour in enumerate(before) if colour is not None]
    negative = [str(before[k]) for k in known]
    after = draw([texts[k] for k in known], [seeds[k] for k in known], negative=negative) if known else []
    gone = sum(_colour(p) not in (c, None) for p, c in zip(after, negative, strict=True))
    return [Figure("negative prompt: its colour goes", gone, len(known))]


def _colour(picture: Picture) -> str | None:
    """The name nearest to the colour of the largest object in a picture."""
    blobs = read(picture).blobs
    return nearest_colours(picture[blobs[0].mask])[0] if blobs else None


def image_to_image(
    draw: Draw, originals: Sequence[tuple[Prompt, Picture]], seed: int
) -> tuple[list[Figure], dict[str, float]]:
    """Weak strength keeps objects and layout, strong strength follows another prompt; mean distances in levels."""
    kept, followed, far = 0, 0, {LOW: [], MIDDLE: [], HIGH: []}
    others = [originals[(k + 1) % len(originals)][0] for k in range(len(originals))]
    for k, ((prompt, picture), other) in enumerate(zip(originals, others, strict=True)):
        image = Image.fromarray(picture)
        for strength, distances in far.items():
            text = other.text if strength == HIGH else prompt.text
            drawn = draw([text], [seed + k], image=image, strength=strength)[0]
            distances.append(distance(drawn, picture))
            kept += strength == LOW and same_layout(read(drawn), read(picture))
            followed += strength == HIGH and judge(read(drawn), other.wanted).right
    count = len(originals)
    return (
        [
            Figure(f"strength {LOW}: object and layout kept", kept, count),
            Figure(f"strength {HIGH}: another prompt followed", followed, count),
        ],
        {f"strength {s}: mean distance from the original": float(np.mean(d)) for s, d in far.items()},
    )


def inpainting(draw: Draw, count: int, seed: int) -> list[Figure]:
    """A quarter of an empty picture is repainted with an object: the rest stays as it is, the object comes."""
    kept = followed = 0
    for k, (prompt, picture, mask) in enumerate(repaints(count)):
        drawn = draw([prompt.text], [seed + k], image=Image.fromarray(picture), mask=mask, strength=1.0)[0]
        outside = np.asarray(_grown(mask)) == 0
        kept += bool((drawn[outside] == picture[outside]).all())
        followed += judge(read(drawn), prompt.wanted).right
    return [
        Figure("outside the mask: every pixel kept", kept, count),
        Figure("inside the mask: object as asked", followed, count),
    ]


def repaints(count: int) -> list[tuple[Prompt, Picture, Image.Image]]:
    """(prompt, plain picture, mask of one side of it, white where the object must come)."""
    rng = np.random.default_rng(3)
    sides = {
        "left": (4, 32, 64, 96),
        "right": (64, 32, 124, 96),
        "top": (32, 4, 96, 64),
        "bottom": (32, 64, 96, 124),
    }
    result = []
    for k in range(count):
        ground, colour = (str(c) for c in rng.permutation(list(COLOURS))[:2])
        position = list(sides)[k % len(sides)]
        thing = Thing(str(rng.choice(SHAPES)), colour, "small", position)
        mask = Image.new("L", (SIDE, SIDE), 0)
        mask.paste(255, sides[position])
        plain = np.full((SIDE, SIDE, 3), COLOURS[ground], np.uint8)
        result.append((Prompt.of(Wanted((thing,), (ground,))), plain, mask))
    return result


def same_layout(found: Reading, original: Reading) -> bool:
    """The same objects and background, none moved or scaled by more than KEPT_SHIFT and KEPT_SCALE."""
    if len(found.blobs) != len(original.blobs) or set(found.background) != set(original.background):
        return False
    for a in original.blobs:
        near = [b for b in found.blobs if (b.shape, b.colour) == (a.shape, a.colour)]
        if not any(
            np.hypot(a.fit.x - b.fit.x, a.fit.y - b.fit.y) <= KEPT_SHIFT
            and 1 / KEPT_SCALE <= a.fit.extent / b.fit.extent <= KEPT_SCALE
            for b in near
        ):
            return False
    return True


def distance(a: Picture, b: Picture) -> float:
    """Mean absolute distance of two pictures in levels 0..255."""
    return float(np.abs(a.astype(np.int16) - b).mean())


def _grown(mask: Image.Image, by: int = 4 * 5) -> Image.Image:
    """The mask grown by five deviations of the pipeline's mask blur, beyond which nothing may change."""
    from PIL import ImageFilter

    return mask.filter(ImageFilter.MaxFilter(2 * by + 1))


def _share(name: str, rows: Sequence[Judged], part: str) -> Figure:
    verdicts = [v for row in rows if (v := getattr(row.verdict, part)) is not None]
    return Figure(name, sum(map(bool, verdicts)), len(verdicts))
