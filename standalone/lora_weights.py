"""A weight as people give it (a number, an expression, diffusers' dictionary by component and block) -> a Strength."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..core.errors import OptionError, nearest
from ..loras import Strength, Targets, parse_expression
from ..loras.blocks import Blocks, block_of

_KNOWN = ("unet", "text_encoder", "text_encoder_2")
_SIDES = {"down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}


def strength_of(weight: Any, targets: Targets) -> Strength:
    """What ``weight`` says; OptionError where it cannot be read."""
    if isinstance(weight, Strength):
        return weight
    if isinstance(weight, str):
        return parse_expression(f"adapter:{weight}")[1]
    if isinstance(weight, Mapping):
        return _by_component(weight, targets)
    value = _number(weight, "weight")
    return Strength(value, value)


def _by_component(weights: Mapping[str, Any], targets: Targets) -> Strength:
    for name in weights:
        if name not in _KNOWN:
            raise OptionError(f"unknown component {name!r} in a weight", todo=nearest(name, _KNOWN))
    unet = weights.get("unet", 1.0)
    blocks = None
    if isinstance(unet, Mapping):
        blocks, unet = _by_block(unet, targets), 1.0
    text = _number(weights.get("text_encoder", 1.0), "text_encoder")
    text_2 = _number(weights.get("text_encoder_2", 1.0), "text_encoder_2")
    return Strength(_number(unet, "unet"), text, text_2, blocks)


def _by_block(weights: Mapping[str, Any], targets: Targets) -> Blocks:
    """`{"down": 0.5, "up": {"block_0": 1.0, "block_1": [0, 1, 1]}}`: a list has a factor for each attention."""
    for side in weights:
        if side not in _SIDES:
            raise OptionError(f"unknown part {side!r} of the UNet", todo=nearest(side, _SIDES))
    factors: dict[str, float] = {}
    for module in targets.modules:
        names = module.names.get("diffusers")
        block = block_of(module.path)
        if module.network == "unet" and names and block is not None:
            factor = _factor(weights, names[0].removeprefix("unet."))
            if factor is not None:
                factors[block] = factor
    return Blocks(factors)


def _factor(weights: Mapping[str, Any], name: str) -> float | None:
    """The factor of a module by its diffusers name; None where the dictionary does not speak of it."""
    side = next((side for side, prefix in _SIDES.items() if name.startswith(prefix)), None)
    given = weights.get(side) if side else None
    if isinstance(given, Mapping):
        found = re.match(r"\w+_blocks\.(\d+)\.(?:attentions|resnets)\.(\d+)", name)
        given = given.get(f"block_{found[1]}", 1.0) if found else None
        if found and isinstance(given, (list, tuple)):
            index = int(found[2])
            given = given[index] if index < len(given) else None
    return None if given is None else _number(given, f"unet {side}")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"weight {value!r}", where, "a number such as 0.8")
    return float(value)
