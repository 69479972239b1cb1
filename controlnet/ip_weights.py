"""Weight types: how strongly each transformer of a UNet reads the image.

A transformer's number counts in running order: input blocks, middle, output blocks. Style and composition live in
few of them (InstantStyle, arXiv:2404.02733): in SDXL transformer 6 gives style and 3 composition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..core.errors import OptionError, nearest
from ..core.unet_config import UNetConfig
from .ip_places import transformer_names


@dataclass(frozen=True)
class Gain:
    """What one transformer's term is multiplied with.

    `swapped`: the prompt's half sees no image and the negative half sees it, so that guidance leads away from it.
    """

    value: float
    swapped: bool = False


Rule = Callable[[int, int, str], float]  # (number, how many there are, side) -> factor
_EASE = 0.95  # the least factor is 0.05


def _weak(*sides: str) -> Rule:
    return lambda n, count, side: 0.2 if side in sides else 1.0


RULES: dict[str, Rule] = {
    "linear": lambda n, count, side: 1.0,
    "ease-in": lambda n, count, side: 1 - _EASE * n / count,
    "ease-out": lambda n, count, side: 1 - _EASE * (1 - n / count),
    "ease-in-out": lambda n, count, side: 1 - _EASE * abs(2 * n / count - 1),
    "reverse-in-out": lambda n, count, side: 1 - _EASE * (1 - abs(2 * n / count - 1)),
    "weak-input": _weak("input"),
    "weak-middle": _weak("middle"),
    "weak-output": _weak("output"),
    "strong-middle": _weak("input", "output"),
}


@dataclass(frozen=True)
class Row:
    """`n-m*f` words: transformers n to m at f times the weight; `composition` ones at that of the composition.

    Those in `away` are swapped (see Gain).
    """

    weight: str = ""
    composition: str = ""
    away: str = ""


# type -> (SD1.5: 16 transformers, SDXL: 11)
_STYLE, _STYLE_XL = "0-3 9-15", "6"
TABLES: dict[str, tuple[Row, Row]] = {
    "style": (Row(_STYLE), Row(_STYLE_XL)),
    "composition": (Row(composition="4*0.25 5"), Row(composition="3")),
    "strong-style": (Row("0-3 6-15"), Row("0-2 4-10")),
    "style-and-composition": (Row(_STYLE, "4*0.25 5"), Row(_STYLE_XL, "3")),
    "strong-style-and-composition": (Row("0-3 6-15", "4 5"), Row("0-2 4-10", "3")),
    "style-precise": (Row(_STYLE, "4*0.25 5", "4 5"), Row(_STYLE_XL, "3", "3")),
    "composition-precise": (
        Row("0-3 6-8*0.1 9-15", "4*0.25 5", "0-3 6-15"),
        Row("0-2*0.1 4*0.1 5*0.1 6 7-10*0.1", "3", "0-2 4-10"),
    ),
}
_COUNTS = (16, 11)
_NAMES = (*RULES, *TABLES)


def check_weight_type(name: str) -> str:
    """The registered name of a weight type, `style transfer` and the like included; OptionError with the nearest."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-").replace("-transfer", "")
    if plain not in _NAMES:
        raise OptionError(f"weight type {name!r}", todo=nearest(plain, _NAMES))
    return plain


def gains(config: UNetConfig, weight_type: str, composition: float | None = None) -> dict[int, Gain]:
    """Transformer -> its factor, at weight 1 and the composition's weight; those that are left out are 0.

    OptionError where the type is known for SD1.5's and SDXL's transformers only and the model has others.
    """
    sides = [block[0] for block, _, _ in config.transformers()]
    name = check_weight_type(weight_type)
    if composition is not None and not (name in TABLES and TABLES[name][0].composition):
        raise OptionError(f"a weight of the composition with type {name!r}", expected="a type that has one")
    if name in RULES:
        return {n: Gain(RULES[name](n, len(sides), side)) for n, side in enumerate(sides)}
    if len(sides) not in _COUNTS:
        raise OptionError(
            f"weight type {name!r} on a model of {len(sides)} transformers",
            expected="SD1.5 (16 transformers) or SDXL (11)",
            todo="give the weights by hand with layers",
        )
    row = TABLES[name][_COUNTS.index(len(sides))]
    away = _expand(row.away)
    own = {n: Gain(f, n in away) for n, f in _expand(row.weight).items()}
    scale = 1.0 if composition is None else composition
    return own | {n: Gain(f * scale, n in away) for n, f in _expand(row.composition).items()}


def by_hand(config: UNetConfig, layers: Mapping[str | int, float]) -> dict[int, Gain]:
    """The same from a table: number, `input8`, `middle`, `down_blocks.2.attentions.1` or `default` -> factor."""
    names = transformer_names(config)
    given = {
        str(name).replace(".", "") if str(name).count(".") == 1 else str(name): v
        for name, v in layers.items()
    }
    default = given.pop("default", 0.0)
    found = dict.fromkeys(range(len(set(names.values()))), default)
    for name, value in given.items():
        if name not in names:
            raise OptionError(f"no layer {name!r} in this model", "layers", todo=nearest(name, names))
        found[names[name]] = value
    return {n: Gain(float(value)) for n, value in found.items()}


def _expand(text: str) -> dict[int, float]:
    """`0-3 9*0.1` -> {0: 1, 1: 1, 2: 1, 3: 1, 9: 0.1}."""
    found: dict[int, float] = {}
    for word in text.split():
        numbers, _, factor = word.partition("*")
        first, _, last = numbers.partition("-")
        found |= dict.fromkeys(range(int(first), int(last or first) + 1), float(factor or 1))
    return found
