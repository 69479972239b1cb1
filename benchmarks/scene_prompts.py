"""Prompts that training never saw, each with what a picture of it must hold.

The words are put together here, not by training's caption grammar, in the plain order of the README's examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..training.words import COLOURS, POSITIONS, RELATIONS, SHAPES, SIZES, STRIPES, held_out
from .scene_checker import Thing, Wanted

STRIPED = 0.15  # share of striped backgrounds
SAID = 0.5  # how often a prompt says a size, and how often a position


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it asks for."""

    text: str
    wanted: Wanted

    @classmethod
    def of(cls, wanted: Wanted) -> Prompt:
        """The prompt that asks for this."""
        nouns = [_noun(t) + _place(t.position) for t in wanted.things]
        body = f" {wanted.relation} ".join(nouns)
        return cls(f"{body} on {_article(_ground(wanted))} background", wanted)


def singles(count: int, seed: int = 0) -> list[Prompt]:
    """One-object prompts; every held-out colour / shape / background triple comes before one comes twice."""
    rng = np.random.default_rng(seed)
    triples = [(c, s, b) for s in SHAPES for c in COLOURS for b in COLOURS if c != b and held_out(c, s, b)]
    prompts: list[Prompt] = []
    while len(prompts) < count:
        for k in rng.permutation(len(triples)):
            prompts.append(Prompt.of(_single(rng, *triples[k])))
    return prompts[:count]


def pairs(count: int, seed: int = 0) -> list[Prompt]:
    """Two-object prompts of which at least one colour / shape / background triple is held out, relations in turn."""
    rng = np.random.default_rng([seed, 1])
    prompts: list[Prompt] = []
    while len(prompts) < count:
        ground, *colours = (str(c) for c in rng.permutation(list(COLOURS))[:3])
        things = tuple(Thing(_pick(rng, SHAPES), colour) for colour in colours)
        if any(held_out(t.colour, t.shape, ground) for t in things):
            relation = list(RELATIONS)[len(prompts) % len(RELATIONS)]
            prompts.append(Prompt.of(Wanted(things, (ground,), None, relation)))
    return prompts


def twins(count: int, seed: int = 0) -> list[tuple[Prompt, Prompt, str]]:
    """Pairs of one-object prompts that differ in one word, and in what: shape, colour or background in turn."""
    rng = np.random.default_rng([seed, 2])
    result = []
    for k in range(count):
        ground, colour, other = (str(c) for c in rng.permutation(list(COLOURS))[:3])
        first, second = (str(s) for s in rng.permutation(list(SHAPES))[:2])
        size = _pick(rng, SIZES)
        part = ("shape", "colour", "background")[k % 3]
        changed = {
            "shape": (second, colour, ground),
            "colour": (first, other, ground),
            "background": (first, colour, other),
        }[part]
        a, b = (
            Prompt.of(Wanted((Thing(s, c, size, "centre"),), (g,)))
            for s, c, g in ((first, colour, ground), changed)
        )
        result.append((a, b, part))
    return result


def _single(rng: np.random.Generator, colour: str, shape: str, ground: str) -> Wanted:
    size = _pick(rng, SIZES) if rng.random() < SAID else None
    position = _pick(rng, POSITIONS) if rng.random() < SAID else None
    thing = Thing(shape, colour, size, position)
    if rng.random() >= STRIPED:
        return Wanted((thing,), (ground,))
    second = _pick(rng, [c for c in COLOURS if c not in (colour, ground)])
    return Wanted((thing,), (ground, second), _pick(rng, STRIPES))


def _noun(thing: Thing) -> str:
    return _article(" ".join(w for w in (thing.size, thing.colour, thing.shape) if w))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _place(position: str | None) -> str:
    if position is None:
        return ""
    if position in ("left", "right"):
        return f" on the {position}"
    return f" at the {position}" if position in ("top", "bottom") else f" in the {position}"


def _ground(wanted: Wanted) -> str:
    if len(wanted.background) == 1:
        return wanted.background[0]
    return f"{wanted.background[0]} and {wanted.background[1]} {wanted.stripes} striped"


def _pick(rng: np.random.Generator, names: Iterable[str]) -> str:
    names = list(names)
    return str(names[int(rng.integers(len(names)))])
