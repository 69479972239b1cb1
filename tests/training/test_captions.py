"""Captions say what is there, of the right object, in words the tokenizer splits piece by piece."""

from __future__ import annotations

import numpy as np

from sigmagraft.standalone.tokens import Tokenizer
from sigmagraft.training.captions import Manner, caption, text
from sigmagraft.training.scenes import Mix, random_scene
from sigmagraft.training.train_text import LENGTH, SHORT, SLOTS, encode_pieces, whole_targets
from sigmagraft.training.words import COLOURS, SHAPES, SYNONYMS

PLAIN = Manner(synonym=0.0)


def made(count: int, manner: Manner = PLAIN):
    for i in range(count):
        rng = np.random.default_rng((5, i))
        scene = random_scene(rng, Mix(pairs=0.5, striped=0.2))
        yield scene, caption(scene, rng, manner)


def test_pieces_name_what_they_say_they_say_and_nothing_else():
    for scene, pieces in made(200):
        for piece in pieces:
            words = set(piece.text.replace(",", "").split())
            if "shape" in piece.said:
                thing = scene.things[piece.about]
                assert {thing.shape} == words & set(SHAPES)
                assert words & set(COLOURS) == ({thing.colour} if "colour" in piece.said else set())
            elif piece.about == -1:
                assert words & set(COLOURS) == set(scene.background.colours)


def test_the_same_generator_gives_the_same_caption_and_captions_vary():
    first = [text(p) for _, p in made(30)]
    assert first == [text(p) for _, p in made(30)]
    assert len(set(first)) == 30


def test_every_synonym_stands_for_a_word_and_occurs():
    spoken = " ".join(text(p) for _, p in made(600, Manner(synonym=1.0)))
    assert all(other in spoken for others in SYNONYMS.values() for other in others)


def test_tokens_of_pieces_are_the_tokens_of_the_caption():
    tokenizer = Tokenizer.clip()
    for _, pieces in made(100, Manner()):
        ids, last = encode_pieces(tokenizer, pieces)
        assert len(ids) == LENGTH
        assert ids[1 : last[-1] + 1] == tokenizer.encode(text(pieces))
        assert last[-1] + 2 <= SHORT


def test_targets_name_only_what_was_said():
    for scene, pieces in made(100):
        targets = dict(zip(SLOTS, whole_targets(scene, pieces), strict=True))
        fields = {f for p in pieces if p.about >= 0 for f in p.said}
        assert (targets["first", "colour"] > 0 or targets["second", "colour"] > 0) == ("colour" in fields)
        assert (targets["second", "shape"] > 0) == (len(scene.things) == 2)
        said_ground = any(p.about == -1 for p in pieces)
        assert (targets["ground", "colour"] > 0) == said_ground
