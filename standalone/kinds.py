"""What kind of value each setting of a request is: told by name before a wrong one fails somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ..core.errors import OptionError

Test = Callable[[Any], bool]
Kind = tuple[str, Test]


def _integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _all(test: Test) -> Test:
    return lambda value: isinstance(value, list | tuple) and all(map(test, value))


def _named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value))


def _pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(map(_integer, value))


def _picture(value: Any) -> bool:
    return hasattr(value, "size") and hasattr(value, "convert")


INTEGER: Kind = ("an integer", _integer)
NUMBER: Kind = ("a number", _number)
TEXT: Kind = ("text", _text)
TEXTS: Kind = ("text, or a list of texts", lambda value: _text(value) or _all(_text)(value))
PAIR: Kind = ("two integers, width and height", _pair)
OPTIONS: Kind = ("a dictionary of names and values", _named)
PICTURE: Kind = ("a PIL image", _picture)
SEED: Kind = ("an integer, or one for each image", lambda value: _integer(value) or _all(_integer)(value))
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("prompt", "negative", "guidance"), TEXTS),
    **dict.fromkeys(("steps", "batch", "clip_skip", "only_masked", "ensd"), INTEGER),
    **dict.fromkeys(("cfg", "cfg_rescale", "strength", "mask_blur", "aesthetic_score", "switch"), NUMBER),
    **dict.fromkeys(
        ("cfg_interval", "schedule", "emphasis", "noise", "step_noise", "noise_type", "like"),
        TEXT,
    ),
    **dict.fromkeys(("size", "original_size", "target_size"), PAIR),
    "crop": ("two integers, left and top", _pair),
    **dict.fromkeys(("options", "schedule_options"), OPTIONS),
    **dict.fromkeys(("image", "mask"), PICTURE),
    "seed": SEED,
    "soft": ("true or false", lambda value: isinstance(value, bool)),
    "loras": ("a list of texts", _all(_text)),
}


def check_kinds(settings: Mapping[str, Any], optional: Iterable[str]) -> None:
    """Raises OptionError for the first of `settings` that is of another kind; those `optional` may be None."""
    may_be_none = set(optional)
    for name, value in settings.items():
        expected, fits = KINDS.get(name, ("", None))
        if fits is None or (value is None and name in may_be_none):
            continue
        if not fits(value):
            raise OptionError(f"{name} {value!r:.80}", expected=expected)
