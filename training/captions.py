"""Captions of scenes: a small grammar that leaves things out, orders them freely and sometimes says a synonym.

`caption` answers pieces of text rather than a string, each with the thing it speaks of, so that a text encoder
can be taught which word belongs to which object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scenes import Background, Scene, Thing
from .words import SYNONYMS

BACKGROUND = -1  # `about` of the words that speak of the background
NOTHING = -2  # ... and of the words between

_OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
}
_SPELLED = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "in front of": ("in front of", "on top of"),
    "behind": ("behind",),
}
_PLACES = {
    "centre": ("in the centre", "in the middle"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}


@dataclass(frozen=True)
class Piece:
    """Some words, the thing they speak of (its index in the scene, BACKGROUND or NOTHING) and what they say of it."""

    text: str
    about: int
    said: tuple[str, ...] = ()  # fields of Thing or Background


@dataclass(frozen=True)
class Manner:
    """How often a caption says what it may leave out."""

    size: float = 0.65
    colour: float = 0.96
    place: float = 0.5
    background: float = 0.93
    synonym: float = 0.06


def caption(scene: Scene, rng: np.random.Generator, manner: Manner = Manner()) -> list[Piece]:
    """One way to say the scene; join with `text`."""
    speaker = _Speaker(rng, manner)
    body = speaker.things(scene)
    if rng.random() >= manner.background:
        return body
    background, said = speaker.background(scene.background)
    form = rng.integers(8)
    if form == 0:
        return [Piece(f"{background} background", BACKGROUND, said), Piece(",", NOTHING), *body]
    if form == 1:
        return [*body, Piece(",", NOTHING), Piece(f"{background} background", BACKGROUND, said)]
    article = "an" if background[0] in "aeiou" else "a"
    joint = "against" if form == 2 else "on"
    ground = speaker.word("background")
    return [*body, Piece(f"{joint} {article} {background} {ground}", BACKGROUND, said)]


def text(pieces: Sequence[Piece]) -> str:
    """The caption as one string."""
    return " ".join(piece.text for piece in pieces).replace(" ,", ",")


class _Speaker:
    def __init__(self, rng: np.random.Generator, manner: Manner) -> None:
        self.rng, self.manner = rng, manner

    def says(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def word(self, name: str) -> str:
        others = SYNONYMS.get(name)
        return self.one(others) if others and self.says(self.manner.synonym) else name

    def one(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def noun(self, thing: Thing, about: int) -> Piece:
        said = ["shape"]
        if self.says(self.manner.colour):
            said.insert(0, "colour")
        if self.says(self.manner.size):
            said.insert(0, "size")
        words = [self.word(getattr(thing, field)) for field in said]
        if self.says(0.8):
            words.insert(0, "an" if words[0][0] in "aeiou" else "a")
        return Piece(" ".join(words), about, tuple(said))

    def place(self, thing: Thing, about: int) -> Piece:
        where = self.one(
            _PLACES.get(thing.position, (f"in the {thing.position}", f"in the {thing.position} corner"))
        )
        return Piece(where, about, ("position",))

    def things(self, scene: Scene) -> list[Piece]:
        if len(scene.things) == 1:
            return self.single(scene.things[0])
        subject, other, relation = scene.subject, 1 - scene.subject, str(scene.relation)
        if self.says(0.4):
            subject, other, relation = other, subject, _OPPOSITE[relation]
        first, second = (self.noun(scene.things[i], i) for i in (subject, other))
        if relation not in ("in front of", "behind") and self.says(0.2):
            where = [self.place(scene.things[i], i) for i in (subject, other)]
            return [first, where[0], Piece("and", NOTHING), second, where[1]]
        return [first, Piece(self.one(_SPELLED[relation]), NOTHING, ("relation",)), second]

    def single(self, thing: Thing) -> list[Piece]:
        noun = self.noun(thing, 0)
        return [noun, self.place(thing, 0)] if self.says(self.manner.place) else [noun]

    def background(self, ground: Background) -> tuple[str, tuple[str, ...]]:
        if ground.second is None:
            plain = "plain " if self.says(0.1) else ""
            return plain + self.word(ground.colour), ("colour",)
        colours = " and ".join(self.word(c) for c in ground.colours)
        if self.says(0.5):
            return f"{colours} {ground.stripes} striped", ("colour", "second", "stripes")
        return f"{colours} striped", ("colour", "second")
