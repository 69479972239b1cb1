"""`a AND b :0.5`: prompts whose pulls are added up, each with a weight (composable diffusion, arXiv:2206.01714)."""

from __future__ import annotations

import re
from typing import NamedTuple

from .lora_prompt import without_tags
from .prompt_editing import Count, Edited, read_editing

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*$")


class Part(NamedTuple):
    """What one side of an AND says, and how strongly it pulls."""

    words: Edited
    weight: float = 1.0

    def at(self, step: int, count: Count) -> str:
        return self.words.at(step, count)


def read_parts(prompt: str, alone: bool = False) -> list[Part]:
    """The parts of a prompt, one where it has no AND.

    Args:
        alone: a number after the last colon is a weight without an AND too, as in A1111 ("in 16:9" is then `in 16`
            with weight 9).
    """
    texts = _AND.split(without_tags(prompt))
    if len(texts) == 1 and not alone:
        return [Part(read_editing(texts[0]))]
    return [_part(text) for text in texts]


def _part(text: str) -> Part:
    found = _weight(text)
    return Part(read_editing(text.rstrip() if found is None else text[: found.start()]), _value(found))


def _weight(text: str) -> re.Match[str] | None:
    colon = text.rfind(":")
    begin = len(text[: max(colon, 0)].rstrip())
    return _WEIGHT.match(text, begin) if colon >= 0 else None


def _value(found: re.Match[str] | None) -> float:
    return 1.0 if found is None else float(found[1])


def whole(text: str) -> list[Part]:
    """The text as it stands, for conventions in which nothing of this means anything."""
    return [Part(Edited((text,)))]
