"""`<lora:NAME:...>` as the hosts hand it over: the words between colons; what only we understand of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import OptionError
from ...loras import Strength, parse_expression
from ..loras import refuse_sources

OURS = ("te2", "blocks", "lbw", "sigma", "step", "fraction", "start", "stop", "force")
"""Names before "=" that no host knows."""
THEIRS = ("dyn",)


@dataclass(frozen=True, eq=False)
class Tag:
    """One tag: ``asked`` says that it has words of ours; ``params`` is the host's object, for its own loader."""

    text: str
    params: Any
    asked: bool

    @classmethod
    def of(cls, params: Any) -> Tag:
        words = [str(item) for item in params.items]
        return cls(":".join(words), params, any(map(_is_ours, words[1:])))

    @property
    def name(self) -> str:
        return self.text.partition(":")[0]

    def read(self) -> tuple[Strength, bool]:
        """(strength, force). OptionError for what cannot be read."""
        words = self.text.split(":")
        force = any(_key(word) == "force" and not word.endswith(("=0", "=false")) for word in words[1:])
        for word in words[1:]:
            if _key(word) in THEIRS:
                raise OptionError(
                    f"{word} of a LoRA that SigmaGraft loads", f"<lora:{self.text}>", todo="leave it out"
                )
        kept = [word for word in words if _key(word) != "force"]
        _, strength, options = parse_expression(":".join(kept))
        refuse_sources(options, self.text)
        return strength, force


def _key(word: str) -> str:
    return word.partition("=")[0].strip().lower()


def _is_ours(word: str) -> bool:
    return _key(word) in OURS or "@" in word


def tags_of(params: Sequence[Any]) -> list[Tag]:
    """The tags of a prompt."""
    return [Tag.of(one) for one in params]
