"""Prompts that change on their way: `[a:b:0.5]` and `[a|b]` -> the words of each step.

| | |
|---|---|
| `[a:b:when]` | a, from step `when` + 1 on b; with a point in it `when` is a share of the steps |
| `[a:when]`, `[a::when]` | nothing, then a; a, then nothing |
| `[a|b|c]` | a, b, c in turn, one a step; each may be empty |

They nest, in each other and in what weighs words. A bracket that does not close, or holds no number where one
belongs, is text, and so is all around it that encloses it. A `|` outside of square brackets makes the whole prompt
text, as a lone backslash at its end does; `\\|` is no separator. It is A1111's grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(r"(?P<text>(?:[^\\\[\]():|]|\\.)+)|(?P<mark>[\[\]():|])")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


class Count(NamedTuple):
    """The steps that a prompt is read for; of a second pass `before` are those of the first."""

    steps: int
    before: int | None = None

    def step(self, when: str) -> int:
        """The last step before a change: a share of the steps where it has a point, else their number.

        A second pass counts on: 1.5 is its middle, `before` + 3 its third step.
        """
        share, passed = "." in when, self.before is not None
        value = (float(when) - passed) * self.steps if share else float(when) - (self.before or 0)
        return int(max(min(value, self.steps), -1))


@dataclass(frozen=True)
class Switch:
    """`before` up to a step, then `after`."""

    before: Items
    after: Items
    when: str

    def at(self, step: int, count: Count) -> Items:
        return self.before if step <= count.step(self.when) else self.after


@dataclass(frozen=True)
class Turn:
    """One of `choices` a step, around again after the last."""

    choices: tuple[Items, ...]

    def at(self, step: int, count: Count) -> Items:
        return self.choices[(step - 1) % len(self.choices)]


Items = tuple["str | Switch | Turn", ...]


@dataclass(frozen=True)
class Edited:
    """A prompt that has been read."""

    items: Items

    @property
    def changes(self) -> bool:
        """Whether its words are not the same in all steps."""
        return any(not isinstance(item, str) for item in self.items)

    def at(self, step: int, count: Count) -> str:
        """Its words in a step, counted from 1."""
        words: list[str] = []
        left = list(self.items)[::-1]
        while left:  # on a stack, so that no depth is too much
            item = left.pop()
            if isinstance(item, str):
                words.append(item)
            else:
                left += item.at(step, count)[::-1]
        return "".join(words)


@dataclass
class _Frame:
    """An open bracket: what it holds so far, in parts between the `marks`."""

    opener: str
    parts: list[list[str | Switch | Turn]] = field(default_factory=lambda: [[]])
    marks: str = ""

    def split(self, mark: str) -> None:
        self.parts.append([])
        self.marks += mark

    def spelled(self, closer: str = "") -> Iterator[str | Switch | Turn]:
        """The bracket as text around what it holds."""
        yield self.opener
        for n, part in enumerate(self.parts):
            if n:
                yield self.marks[n - 1]
            yield from part
        if closer:
            yield closer

    def takes(self, mark: str) -> bool:
        """Whether a `:` or `|` may stand here."""
        if mark == "|":
            return self.opener == "[" and ":" not in self.marks
        return self.marks in (("", ":") if self.opener == "[" else ("",))


class _NoEditing(Exception):
    """The prompt cannot be read: it is text."""


class _Reader:
    """One pass over a prompt; `top` is what stands outside of all brackets that are open."""

    def __init__(self) -> None:
        self.top: list[str | Switch | Turn] = []
        self.open: list[_Frame] = []

    def add(self, *items: str | Switch | Turn) -> None:
        (self.open[-1].parts[-1] if self.open else self.top).extend(items)

    def mark(self, mark: str) -> None:
        if mark in "([":
            self.open.append(_Frame(mark))
        elif mark in ":|":
            self._split(mark)
        elif not self.open or self.open[-1].opener != {")": "(", "]": "["}[mark]:
            self.stray(mark)
        else:
            self._close(self.open.pop(), mark)

    def _split(self, mark: str) -> None:
        if self.open and self.open[-1].takes(mark):
            self.open[-1].split(mark)
        elif mark == "|":
            raise _NoEditing
        else:
            self.stray(mark)

    def _close(self, frame: _Frame, closer: str) -> None:
        if "|" in frame.marks:
            self.add(Turn(tuple(map(tuple, frame.parts))))
        elif frame.opener == "(" or not frame.marks:
            self.add(*frame.spelled(closer))
        elif len(frame.parts[-1]) == 1 and (when := _NUMBER.fullmatch(str(frame.parts[-1][0]))):
            before, after = ([], *frame.parts[:-1])[-2:]
            self.add(Switch(tuple(before), tuple(after), when[1]))
        else:
            self.open.append(frame)
            self.stray(closer)

    def stray(self, mark: str) -> None:
        """A bracket or colon that means nothing: every bracket around it is text as well."""
        for frame in self.open:
            if "|" in frame.marks:
                raise _NoEditing
            self.top += frame.spelled()
        self.open.clear()
        self.top.append(mark)


def read_editing(prompt: str) -> Edited:
    """The prompt with its changes found; no prompt is an error."""
    reader, position = _Reader(), 0
    try:
        while position < len(prompt):
            token = _TOKEN.match(prompt, position)
            if token is None:
                raise _NoEditing
            reader.add(token[0]) if token["text"] else reader.mark(token[0])
            position = token.end()
        reader.stray("")
    except _NoEditing:
        return Edited((prompt,))
    return Edited(tuple(reader.top))
