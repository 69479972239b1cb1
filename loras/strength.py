"""How strongly an adapter acts: on the UNet and the text encoders, by block, and over the run.

One expression says it all: `name:1.0:te=0.5:blocks=OUTALL:sigma=0@14,1@2`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..core.errors import OptionError, nearest
from .blocks import Blocks, parse_blocks
from .curve import Curve, Place, parse_curve, parse_window


@dataclass(frozen=True)
class Strength:
    """weight = (unet or text) * block * curves; the curves act on the UNet alone, as prompts are read once.

    Motion modules count to the UNet, and are in none of its blocks.
    """

    unet: float = 1.0
    text: float = 1.0
    text_2: float | None = None  # as text
    blocks: Blocks | None = None
    curves: tuple[Curve, ...] = ()

    def fixed(self, network: str, path: str) -> float:
        """The part that does not change over the run, for one module."""
        if network == "unet":
            return self.unet * (1.0 if self.blocks is None else self.blocks.factor(path))
        base = 1.0 if self.blocks is None else self.blocks.base
        if network == "motion":
            return self.unet * base
        second = network == "text_encoder_2" and self.text_2 is not None
        return (self.text_2 if second else self.text) * base  # type: ignore[operator]

    def of(self, key: str) -> float:
        """As `fixed`, for a patch key such as `unet.input_blocks.1.1.proj_in.weight`."""
        network, _, path = key.partition(".")
        return self.fixed(network, path)

    def moves(self, key: str) -> bool:
        """Whether the change of this patch key moves over the run."""
        return bool(self.curves) and key.startswith(("unet.", "motion."))

    def moving(self, place: Place) -> float:
        """The factor that the curves give at a place of the run."""
        return math.prod(curve.at(place) for curve in self.curves)

    def times(self, factor: float) -> Strength:
        """The same, weaker or stronger as a whole."""
        text_2 = None if self.text_2 is None else self.text_2 * factor
        return replace(self, unet=self.unet * factor, text=self.text * factor, text_2=text_2)


def parse_expression(text: str) -> tuple[str, Strength, dict[str, str]]:
    """`name:weight:option=value...` -> (name, strength, the options that are not of strength: weight_name).

    One weight is for UNet and text encoders; two are text encoders and UNet, as A1111 reads them; `te=`, `te2=` and
    `unet=` set them apart. A weight of the form `0@0,1@0.5` is a curve over fractions of the run, or over steps where a
    place is above 1. OptionError with the nearest name for an option nobody knows.
    """
    name, *rest = text.split(":")
    if len(name) == 1 and rest and rest[0][:1] in ("/", "\\"):  # a drive's letter
        name, rest = f"{name}:{rest[0]}", rest[1:]
    words = [word.strip() for word in rest]
    if not name.strip():
        raise OptionError("no name", f"<lora:{text}>", "name:weight, such as inkdrawing:0.8")
    options = [word for word in words if _is_option(word)]
    given = [word for word in words if not _is_option(word)]
    if len(given) > 2:
        raise OptionError(f"{len(given)} weights", f"<lora:{text}>", "one, or text encoder and UNet")
    builder = _Builder(text)
    for place, word in zip(("all",) if len(given) < 2 else ("te", "unet"), given, strict=False):
        builder.weight(place, word)
    for option in options:
        key, _, value = option.partition("=")
        builder.option(key.strip().lower(), value.strip())
    return name.strip(), builder.strength, builder.other


def _is_option(word: str) -> bool:
    return "=" in word


class _Builder:
    """A strength in the making: one method call for each word."""

    KNOWN = ("te", "te1", "te2", "unet", "blocks", "lbw", "sigma", "step", "fraction", "start", "stop")
    OTHER = ("weight_name", "subfolder", "revision")

    def __init__(self, text: str) -> None:
        self.where = f"<lora:{text}>"
        self.strength = Strength()
        self.other: dict[str, str] = {}

    def weight(self, place: str, word: str) -> None:
        if "@" in word:
            if place == "te":
                raise OptionError(
                    f"weight {word} of the text encoder", self.where, "one number: prompts are read once"
                )
            return self._curve(parse_curve(word, None, self.where))
        value = self._number(word)
        fields = {
            "all": ("unet", "text"),
            "te": ("text",),
            "te1": ("text",),
            "te2": ("text_2",),
            "unet": ("unet",),
        }
        self.strength = replace(self.strength, **dict.fromkeys(fields[place], value))

    def option(self, key: str, value: str) -> None:
        if key in ("te", "te1", "te2", "unet"):
            self.weight("te" if key == "te1" else key, value)
        elif key in ("blocks", "lbw"):
            self.strength = replace(self.strength, blocks=parse_blocks(value, self.where))
        elif key in ("start", "stop") or (key == "step" and "@" not in value):
            self._curve(parse_window(key, value, self.where))
        elif key in ("sigma", "step", "fraction"):
            self._curve(parse_curve(value, key, self.where))
        elif key in self.OTHER:
            self.other[key] = value
        else:
            raise OptionError(f"unknown option {key!r}", self.where, todo=nearest(key, self.KNOWN))

    def _curve(self, curve: Curve) -> None:
        self.strength = replace(self.strength, curves=(*self.strength.curves, curve))

    def _number(self, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise OptionError(f"weight {word!r}", self.where, "a number such as 0.8")
        return value
