"""argparse with our errors (one line, nearest names) and the types of our options. Imports no torch."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from ...core.errors import OptionError, nearest

Size = tuple[int, int]
OPTIONAL_NUMBER = {
    "--preview": "1",
    "--only-masked": "32",
}  # options whose number may be left out, and what it is then


class Parser(argparse.ArgumentParser):
    """A command's options. What was not given is absent from the namespace, so that defaults can be
    layered.
    """

    def __init__(self, command: str, description: str, **kwargs: Any) -> None:
        super().__init__(
            prog=f"sigmagraft {command}",
            description=description,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            **kwargs,
        )
        self.add_argument("--debug", action="store_true", help="show the trace of an error")

    def error(self, message: str) -> NoReturn:
        told = message.endswith("?")  # the nearest names are advice enough
        raise OptionError(
            message.removeprefix("argument "), todo=None if told else f"see `{self.prog} --help`"
        )

    def parse(self, argv: Sequence[str], words: str | None = None) -> argparse.Namespace:
        """Parse `argv`; bare words, wherever they stand, join into the positional option `words`."""
        argv = list(argv)
        cut = argv.index("--") if "--" in argv else len(argv)
        given, rest = self.parse_known_args(_with_numbers(argv[:cut]))
        for word in rest:
            if word.startswith("-") and " " not in word:
                name = word.split("=")[0]
                raise OptionError(f"unknown option {name}", todo=nearest(name, self._option_string_actions))
        rest += argv[cut + 1 :]
        if rest and words is None:
            self.error(f"unexpected {' '.join(rest)!r}")
        if words is not None and (rest or hasattr(given, words)):
            setattr(given, words, " ".join([*getattr(given, words, []), *rest]))
        return given


def _with_numbers(argv: Sequence[str]) -> list[str]:
    """`--preview "a cat"`: argparse would take the prompt for the number, so the default is filled in
    first.
    """
    out: list[str] = []
    for word in argv:
        if out and out[-1] in OPTIONAL_NUMBER:
            if re.fullmatch(r"-?\d+", word):
                out[-1] += f"={word}"
                continue
            out[-1] += f"={OPTIONAL_NUMBER[out[-1]]}"
        out.append(word)
    if out and out[-1] in OPTIONAL_NUMBER:
        out[-1] += f"={OPTIONAL_NUMBER[out[-1]]}"
    return out


def number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """A type for argparse: an integer or a real number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (low <= value <= high) or math.isnan(value):
            name = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {name} from {low:,} to {high:,}")
        return value

    return read


def choice(names: Iterable[str], also: str = "") -> Callable[[str], str]:
    """A type for argparse: one of `names`, or what the pattern `also` matches; the error offers the
    nearest.
    """
    names = list(names)

    def read(text: str) -> str:
        if text in names or (also and re.fullmatch(also, text)):
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; {nearest(text, names)}")

    return read


def size(text: str) -> Size:
    """`768x512` (width x height) or `512`; both sides divisible by 8."""
    from ..images import check_size  # Pillow, no torch

    match = re.fullmatch(r"(\d{1,6})(?:[xX×*](\d{1,6}))?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x768 or 512")
    width, height = int(match[1]), int(match[2] or match[1])
    try:
        return check_size((width, height))
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pair(text: str) -> Size:
    """Two whole numbers: `1024x768`, or `0,64`."""
    match = re.fullmatch(r"(\d{1,5})[xX×*,](\d{1,5})", text.replace(" ", ""))
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 1024x1024 or 0,64")
    return int(match[1]), int(match[2])


def numbers(text: str) -> list[float]:
    """`14.6,3,1`: numbers between commas or spaces; nothing between two commas is an error."""
    parts = [part.split() for part in text.split(",")]
    try:
        found = [float(word) for part in parts for word in part] if all(parts) else []
    except ValueError:
        found = []
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 14.6,3,1")
    return found


def named(text: str) -> tuple[str, dict[str, str]]:
    """`name` or `name:option=value,option=value`; the name may be `k_diffusion:NAME`."""
    installed = re.match(r"k[-_ ]?diffusion:", text.strip(), re.IGNORECASE)
    prefix = installed[0] if installed else ""
    name, _, options = text.strip()[len(prefix) :].partition(":")
    return prefix + name, dict(assignment(part) for part in options.split(",") if part.strip())


def assignment(text: str) -> tuple[str, str]:
    """`option=value`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not option=value")
    return name.strip(), value.strip()
