"""Chunks: where a long prompt is cut, what is kept together, and how a chunk is framed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sigmagraft.core.errors import FileError
from sigmagraft.standalone.chunks import (
    BREAK,
    Piece,
    Vector,
    embedding_names,
    fill_a1111,
    fill_comfyui,
    frame,
    pieces,
)
from sigmagraft.standalone.emphasis import EMPHASIS
from sigmagraft.standalone.prompt import Segment
from sigmagraft.standalone.textual_inversion import Embedding, Embeddings
from sigmagraft.standalone.tokens import Tokenizer

COMMA = 267
FILLS = [fill_a1111, fill_comfyui]


def words(count: int, first: int = 1000) -> Piece:
    return Piece(tuple(range(first, first + count)))


def learned(count: int) -> Piece:
    embedding = Embedding("x", Path("x.pt"), {"": torch.zeros(count, 8)})
    return Piece(tuple(Vector(embedding, row) for row in range(count)))


def entries(chunks) -> list[list]:
    return [[entry for entry, _ in chunk] for chunk in chunks]


def sizes(chunks) -> list[int]:
    return [len(chunk) for chunk in chunks]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("count", "wanted"), [(0, [0]), (75, [75]), (76, [75, 1]), (200, [75, 75, 50])])
def test_long_text_is_cut_at_75(fill, count, wanted):
    chunks = fill([words(count)], 75, COMMA, 20)
    assert sizes(chunks) == wanted
    assert [e for chunk in entries(chunks) for e in chunk] == list(range(1000, 1000 + count))


def with_comma(at: int, count: int) -> Piece:
    ids = list(range(1000, 1000 + count))
    ids[at] = COMMA
    return Piece(tuple(ids))


@pytest.mark.parametrize(
    ("comma", "backtrack", "wanted"),
    [
        (60, 20, [61, 19]),  # the comma stays, what follows moves on
        (55, 20, [56, 24]),  # 20 back, counted from the chunk's end, is the last that serves
        (54, 20, [75, 5]),
        (60, 0, [75, 5]),
        (60, 14, [75, 5]),
        (60, 15, [61, 19]),
        (74, 20, [75, 5]),  # nothing follows it in this chunk
        (75, 20, [75, 5]),  # the comma itself starts the next chunk, as in A1111
    ],
)
def test_a1111_prefers_a_comma(comma, backtrack, wanted):
    piece = with_comma(comma, 80)
    chunks = fill_a1111([piece], 75, COMMA, backtrack)
    assert sizes(chunks) == wanted
    assert tuple(e for chunk in entries(chunks) for e in chunk) == piece.entries


def test_a1111_forgets_commas_of_earlier_chunks():
    piece = Piece((*range(1000, 1070), COMMA, *range(2000, 2090)))
    assert sizes(fill_a1111([piece], 75, COMMA, 20)) == [71, 75, 15]


def test_weights_move_with_their_tokens():
    parts = [with_comma(60, 70), Piece(tuple(range(5000, 5010)), 1.5)]
    chunks = fill_a1111(parts, 75, COMMA, 20)
    assert [pair for chunk in chunks for pair in chunk][70:] == [(5000 + n, 1.5) for n in range(10)]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([words(3), BREAK, words(2)], [3, 2]),
        ([BREAK, words(2)], [0, 2]),
        ([words(3), BREAK], [3]),
        ([words(1), BREAK, BREAK, words(1)], [1, 0, 1]),
        ([words(75), BREAK, words(1)], [75, 1]),
        ([], [0]),
    ],
)
def test_a1111_break(parts, wanted):
    assert sizes(fill_a1111(parts, 75, COMMA, 20)) == wanted


def test_a1111_keeps_an_embedding_whole():
    assert sizes(fill_a1111([words(70), learned(6), words(1)], 75, COMMA, 20)) == [70, 7]
    assert sizes(fill_a1111([words(70), learned(5)], 75, COMMA, 20)) == [75]
    with pytest.raises(FileError, match=r"x\.pt: 76 vectors do not fit a chunk .*at most 75"):
        fill_a1111([learned(76)], 75, COMMA, 20)


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([words(70), words(7)], [70, 7]),  # below 8 tokens: whole
        ([words(70), words(8)], [75, 3]),  # from 8 on: cut
        ([words(70), learned(7)], [70, 7]),
        ([words(70), learned(9)], [75, 4]),
        ([learned(80)], [75, 5]),
        ([words(75), words(3)], [75, 3]),
    ],
)
def test_comfyui_moves_short_groups_whole(parts, wanted):
    assert sizes(fill_comfyui(parts, 75, COMMA, 20)) == wanted


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("room", [1, 3, 7, 8])
def test_any_room_ends(fill, room):
    chunks = fill([words(20), words(7, 2000)], room, COMMA, 20)
    assert max(sizes(chunks)) <= room
    assert sum(sizes(chunks)) == 27


def test_frame():
    framed = frame([(5, 1.5), (6, 0.5)], 98, 99, 0, 7)
    assert framed.entries == [98, 5, 6, 99, 0, 0, 0]
    assert framed.weights == [1, 1.5, 0.5, 1, 1, 1, 1]
    assert framed.eos == 3


@pytest.fixture
def library(tmp_path):
    for name, count in (("style-one", 2), ("style", 3), ("Cat", 1)):
        torch.save({"string_to_param": {"*": torch.zeros(count, 8)}}, tmp_path / f"{name}.pt")
    return Embeddings([tmp_path])


def read(text: str, library: Embeddings, bare: bool = True) -> list:
    clip = Tokenizer.clip()
    names = embedding_names(clip, library) if bare else {}
    found = pieces([Segment(text)], clip, library, names)
    return [e.embedding.name if isinstance(e, Vector) else e for piece in found for e in piece.entries]


def test_embeddings_by_bare_name(library):
    clip = Tokenizer.clip()
    art, by = clip.encode("art by")
    assert read("art by style-one", library) == [art, by, "style-one", "style-one"]
    assert read("art by style", library) == [art, by, *["style"] * 3]
    assert read("cat, CAT", library) == ["Cat", COMMA, "Cat"]
    assert read("cats", library) == clip.encode("cats")
    assert read("art by style", library, bare=False) == clip.encode("art by style")


@pytest.mark.parametrize("bare", [True, False])
def test_embeddings_by_call(library, bare):
    clip = Tokenizer.clip()
    (dog,) = clip.encode("dog")
    assert read("embedding:style", library, bare) == ["style"] * 3
    assert read("dog embedding:style-one dog", library, bare) == [dog, *["style-one"] * 2, dog]
    assert read("embedding:style, dog", library, bare) == [*["style"] * 3, COMMA, dog]
    assert read("dog,embedding:Cat.pt", library, bare) == [dog, COMMA, "Cat"]
    assert read("dog embedding: dog", library, bare) == clip.encode("dog embedding: dog")


def test_every_style_reads_all_words_but_the_one_that_cuts():
    for name, style in EMPHASIS.items():
        read_words = sum(sizes(style.fill([words(100)], 75, COMMA, 20)))
        assert read_words == (75 if name == "diffusers" else 100)
