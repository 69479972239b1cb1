"""Prompt syntax -> segments of text with weights, as three conventions read it; no prompt is an error.

| | A1111 | ComfyUI | none |
|---|---|---|---|
| `(a)` | 1.1 times | 1.1 times | text |
| `(a:1.3)` | 1.3 times what encloses it | 1.3, whatever encloses it | text |
| `[a]` | divided by 1.1 | text | text |
| `\\(` `\\)` | parentheses | parentheses | text |
| `\\[` `\\]` `\\\\` | the character; a lone backslash vanishes | text | text |
| `BREAK` | ends a chunk | text | text |
| left open | weighs up to the end | text | text |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

FACTOR = 1.1
_ESCAPED = {"\\(": "\0\2", "\\)": "\0\1"}
_A1111 = re.compile(r"\\(?P<escaped>[()\[\]\\]?)|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


class Segment(NamedTuple):
    """Text that shares one weight; text None is a BREAK: what follows starts a new chunk."""

    text: str | None
    weight: float = 1.0


def parse_none(prompt: str) -> list[Segment]:
    """The prompt as it stands, with weight 1."""
    return [Segment(prompt)]


def parse_a1111(prompt: str) -> list[Segment]:
    """A1111's syntax. Round and square brackets nest apart: `(a [b) c]` weighs overlapping ranges.

    Here a BREAK inside brackets is a BREAK (A1111 multiplies its mark by the weight and then reads it as a
    word).
    """
    texts: list[str | None] = []
    spans: list[tuple[int, int, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for found in _A1111.finditer(prompt):
        token = found[0]
        if token[0] == "\\":
            texts.append(found["escaped"])
        elif token in opened:
            opened[token].append(len(texts))
        elif (closing := _closing(token, found["weight"])) and opened[closing[0]]:
            spans.append((opened[closing[0]].pop(), len(texts), closing[1]))
        else:
            texts += _with_breaks(token)
    for bracket, factor in (("(", FACTOR), ("[", 1 / FACTOR)):
        spans += [(start, len(texts), factor) for start in opened[bracket]]
    weights = [math.prod((f for a, b, f in spans if a <= i < b), start=1.0) for i in range(len(texts))]
    return _merged(map(Segment, texts, weights)) or [Segment("")]


def _closing(token: str, weight: str | None) -> tuple[str, float] | None:
    """The bracket that a token closes, and the factor of what it enclosed; `:1.2.3)` counts as `)`."""
    if token == "]":
        return "[", 1 / FACTOR
    if token[-1] != ")":
        return None
    return "(", FACTOR if weight is None else _number(weight, FACTOR)


def _number(text: str, otherwise: float) -> float:
    """The finite number that `text` spells, else `otherwise`."""
    try:
        number = float(text)
    except ValueError:
        return otherwise
    return number if math.isfinite(number) else otherwise


def _with_breaks(text: str) -> Iterator[str | None]:
    for i, part in enumerate(_BREAK.split(text)):
        if i:
            yield None
        yield part


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbours of equal weight as one text: `(un)(necessary)` is tokenized as one word."""
    merged: list[Segment] = []
    for text, weight in segments:
        last = merged[-1] if merged else Segment(None)
        if text is not None and last.text is not None and weight == last.weight:
            merged[-1] = Segment(last.text + text, weight)
        else:
            merged.append(Segment(text, 1.0 if text is None else weight))
    return merged


def parse_comfyui(prompt: str) -> list[Segment]:
    """ComfyUI's syntax: an explicit weight replaces what encloses it, bare parentheses multiply by 1.1."""
    for escaped, mark in _ESCAPED.items():
        prompt = prompt.replace(escaped, mark)
    return [Segment(_unescape(text), weight) for text, weight in _nested(prompt)] or [Segment("")]


def _unescape(text: str) -> str:
    for escaped, mark in _ESCAPED.items():
        text = text.replace(mark, escaped[1])
    return text


def _nested(prompt: str) -> Iterator[tuple[str, float]]:
    """Texts and weights from left to right; on a stack, so that no depth of parentheses is too much."""
    stack = [(group, 1.0) for group in _groups(prompt)][::-1]
    while stack:
        text, weight = stack.pop()
        if len(text) > 1 and text[0] == "(" and text[-1] == ")":
            inner, weight = _weighed(text[1:-1], weight * FACTOR)
            stack += [(group, weight) for group in _groups(inner)][::-1]
        else:
            yield text, weight


def _weighed(text: str, otherwise: float) -> tuple[str, float]:
    """`a:1.2` -> ("a", 1.2); without a finite number after its last colon the text keeps `otherwise`."""
    head, _, tail = text.rpartition(":")
    weight = _number(tail, math.nan) if head else math.nan
    return (text, otherwise) if math.isnan(weight) else (head, weight)


def _groups(text: str) -> Iterator[str]:
    """The text cut around its outermost parentheses; after a stray `)` the next `(` only makes up for it."""
    depth = begin = 0
    for i, character in enumerate(text):
        if character == "(":
            if depth == 0 and i > begin:
                yield text[begin:i]
            begin = i if depth == 0 else begin
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                yield text[begin : i + 1]
                begin = i + 1
    if begin < len(text):
        yield text[begin:]
