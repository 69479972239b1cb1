"""SDXL's size conditioning from a request's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import OptionError
from .textrules import RULES, Sizes

if TYPE_CHECKING:
    from .model import ModelInfo
    from .request import Request

SETTINGS = ("original_size", "crop", "target_size", "aesthetic_score")
_TAKES = {"": (), "target": SETTINGS[:3], "aesthetic": ("original_size", "crop", "aesthetic_score")}
_HIGHEST = 1 << 16


def check_sizes(request: Request, info: ModelInfo) -> None:
    """OptionError for a setting that this family was not trained with, or a value that makes no sense."""
    takes = _TAKES[RULES[info.family].sizes]
    for name in SETTINGS:
        value = getattr(request, name)
        if value is None:
            continue
        if name not in takes:
            known = f"one of {', '.join(takes)}" if takes else "no size settings"
            raise OptionError(f"{name} on a model of family {info.family}", expected=known)
        if name == "aesthetic_score":
            if isinstance(value, bool) or not 0.0 <= value <= 10.0:
                raise OptionError(f"aesthetic_score {value}", expected="0 to 10")
        elif len(value) != 2 or not all(int(name != "crop") <= side <= _HIGHEST for side in value):
            raise OptionError(f"{name} {value}", expected="two numbers of pixels")


def sizes_of(request: Request, negative: bool) -> Sizes:
    """What the prompt or the negative one is told of sizes. The score is the prompt's; the other keeps its low one."""
    score = None if negative else request.aesthetic_score
    return Sizes(request.original_size, request.crop or (0, 0), request.target_size, score)
