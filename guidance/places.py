"""Which self-attentions a guidance acts on, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..core.errors import OptionError
from ..core.option import Option
from ..core.patch import Block
from ..core.unet_config import UNetConfig

_PLACE = re.compile(r"(input|middle|output)(?:\.(\d+))?")


@dataclass(frozen=True)
class Places(Option):
    """An option whose value names blocks: `middle`, `all`, `input.7`, `output`, several joined by `+`."""

    @property
    def expected(self) -> str:
        return "middle, input, output, all, or blocks such as input.7+output.3"

    def check(self, value: Any, owner: str) -> str:
        words = str(value).replace(" ", "").split("+")
        if not all(word == "all" or _PLACE.fullmatch(word) for word in words):
            raise OptionError(f"option {self.name}={value!r}", owner, self.expected)
        return "+".join(words)


def self_attentions(config: UNetConfig, places: str, owner: str) -> list[tuple[Block, int]]:
    """(block, index) of each in those places. OptionError where the UNet has none there."""
    known = [(block, depth) for block, depth, _ in config.transformers()]
    found: list[tuple[Block, int]] = []
    for word in places.split("+"):
        here = [(block, depth) for block, depth in known if _in(block, word)]
        if not here:
            names = ", ".join(f"{name}.{number}" for (name, number), _ in known)
            raise OptionError(f"no self-attention in {word}", owner, f"one of {names}")
        found += [(block, index) for block, depth in here for index in range(depth)]
    return list(dict.fromkeys(found))


def _in(block: Block, word: str) -> bool:
    kind, _, number = word.partition(".")
    return kind in ("all", block[0]) and number in ("", str(block[1]))
