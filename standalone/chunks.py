"""Segments of a prompt -> chunks that fit a text encoder: 75 tokens each, its 77 less start and end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..core.errors import FileError
from .prompt import Segment
from .textual_inversion import Embedding, Embeddings
from .tokens import Tokenizer

WORD = 8  # ComfyUI moves a group of fewer tokens to the next chunk whole
_CALL = re.compile(r"(?:(?<=[\s,])|^)embedding:(\S+)")


class Vector(NamedTuple):
    """One row of a textual inversion, where a token would be."""

    embedding: Embedding
    row: int


Entry = int | Vector
Names = dict[int, list[tuple[list[int], str]]]
Chunk = list[tuple[Entry, float]]


class Piece(NamedTuple):
    """Entries with one weight that came from one text or one embedding; no entries: a BREAK."""

    entries: tuple[Entry, ...]
    weight: float = 1.0


BREAK = Piece(())


class Framed(NamedTuple):
    """A chunk as a text encoder takes it: `length` entries and weights, and where its first end token is."""

    entries: list[Entry]
    weights: list[float]
    eos: int


def embedding_names(tokenizer: Tokenizer, embeddings: Embeddings) -> Names:
    """Embeddings' names as token ids, by first id, longest first: so A1111 finds them among a prompt's."""
    found: Names = {}
    for name, ids in zip(embeddings.names, tokenizer.encode_all(embeddings.names), strict=True):
        if ids:
            found.setdefault(ids[0], []).append((ids, name))
    for known in found.values():
        known.sort(key=lambda pair: -len(pair[0]))
    return found


def pieces(
    segments: Sequence[Segment], tokenizer: Tokenizer, embeddings: Embeddings, names: Names
) -> Iterator[Piece]:
    """Tokenized segments, with `embedding:name` and any name in `names` replaced by that file's vectors."""
    for text, weight in segments:
        if text is None:
            yield BREAK
            continue
        position = 0
        for call in _CALL.finditer(text):
            embedding, rest = _called(call[1], embeddings)
            yield from _worded(tokenizer.encode(text[position : call.start()]), weight, embeddings, names)
            yield _vectors(embedding, weight)
            position = call.end() - rest
        yield from _worded(tokenizer.encode(text[position:]), weight, embeddings, names)


def _called(name: str, embeddings: Embeddings) -> tuple[Embedding, int]:
    """The embedding called, and how many characters at the end are not of its name (`embedding:a, b`)."""
    for stripped in (name, name.rstrip(",.;:!?"), re.split(r"[<\[,]", name)[0]):
        if stripped in embeddings:
            return embeddings[stripped], len(name) - len(stripped)
    return embeddings[name.rstrip(",")], 0


def _vectors(embedding: Embedding, weight: float) -> Piece:
    return Piece(tuple(Vector(embedding, row) for row in range(embedding.vectors)), weight)


def _worded(ids: list[int], weight: float, embeddings: Embeddings, names: Names) -> Iterator[Piece]:
    begin = position = 0
    while position < len(ids):
        matches = (m for m in names.get(ids[position], ()) if ids[position : position + len(m[0])] == m[0])
        match = next(matches, None)
        if match is None:
            position += 1
            continue
        if begin < position:
            yield Piece(tuple(ids[begin:position]), weight)
        yield _vectors(embeddings[match[1]], weight)
        begin = position = position + len(match[0])
    if begin < len(ids):
        yield Piece(tuple(ids[begin:]), weight)


def fill_a1111(parts: Sequence[Piece], room: int, comma: int | None, backtrack: int) -> list[Chunk]:
    """Chunks token by token; a BREAK ends one, and an embedding that does not fit starts the next.

    Where a chunk is full and its last comma no more than `backtrack` tokens back, what follows the comma
    moves to the next chunk (A1111's default is 20 tokens; 0 breaks anywhere).
    """
    chunks: list[Chunk] = [[]]
    last_comma: int | None = None
    for piece in parts:
        if piece is BREAK:
            chunks.append([])
            last_comma = None
        for group in _indivisible(piece, room):
            chunk = chunks[-1]
            if group == (comma,):
                last_comma = len(chunk)
            elif len(chunk) == room and last_comma is not None and room - last_comma <= backtrack:
                chunks.append(chunk[last_comma + 1 :])
                del chunk[last_comma + 1 :]
                last_comma = None
            if len(chunks[-1]) + len(group) > room:
                chunks.append([])
                last_comma = None
            chunks[-1] += [(entry, piece.weight) for entry in group]
    return chunks if chunks[-1] or len(chunks) == 1 else chunks[:-1]


def _indivisible(piece: Piece, room: int) -> Iterator[tuple[Entry, ...]]:
    """A piece token by token, an embedding's vectors together."""
    if piece.entries and isinstance(piece.entries[0], Vector):
        if len(piece.entries) > room:
            embedding = piece.entries[0].embedding
            raise FileError(
                f"{embedding.vectors} vectors do not fit a chunk", embedding.path, f"at most {room}"
            )
        yield piece.entries
    else:
        for entry in piece.entries:
            yield (entry,)


def fill_comfyui(parts: Sequence[Piece], room: int, comma: int | None, backtrack: int) -> list[Chunk]:
    """Chunks piece by piece: one below 8 tokens that does not fit moves on whole, a longer one is cut.

    Commas mean nothing here: `comma` and `backtrack` are taken so that all ways of filling are called alike.
    """
    chunks: list[Chunk] = [[]]
    for entries, weight in parts:
        rest = [(entry, weight) for entry in entries]
        cut = len(rest) >= min(WORD, room)
        while len(chunks[-1]) + len(rest) > room:
            left = room - len(chunks[-1]) if cut else 0
            chunks[-1] += rest[:left]
            rest = rest[left:]
            chunks.append([])
        chunks[-1] += rest
    return chunks


def fill_first(parts: Sequence[Piece], room: int, comma: int | None, backtrack: int) -> list[Chunk]:
    """One chunk: what does not fit is left out, wherever that cuts."""
    return [[(entry, weight) for entries, weight in parts for entry in entries][:room]]


def frame(chunk: Chunk, start: int, end: int, pad: int, length: int) -> Framed:
    """start, the chunk, end and padding: `length` entries, all but the chunk's own with weight 1."""
    entries = [start, *(entry for entry, _ in chunk), end]
    weights = [1.0, *(weight for _, weight in chunk), 1.0]
    missing = length - len(entries)
    return Framed(entries + [pad] * missing, weights + [1.0] * missing, entries.index(end))
