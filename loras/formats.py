"""The families of adapters, in the order in which a module's tensors are offered to them."""

from __future__ import annotations

from . import full, glora, ia3, loha, lokr, lowrank, oft, peft_oft
from .delta import Delta
from .dora import normalised
from .group import Format, Group

FORMATS: tuple[Format, ...] = (
    lowrank.FORMAT,
    lowrank.EMBEDDING,
    loha.FORMAT,
    lokr.FORMAT,
    lokr.FACTORED,
    glora.FORMAT,
    oft.FORMAT,
    oft.WHOLE,
    peft_oft.OFT,
    peft_oft.BOFT,
    ia3.FORMAT,
    ia3.PEFT,
    *full.FORMATS,
)


def deltas_of(group: Group) -> list[tuple[str, Delta]]:
    """(parameter, change) of everything a module's tensors say; what they say that nobody knows stays in the group.

    FileError where the tensors of one family contradict each other.
    """
    found: list[tuple[str, Delta]] = []
    for family in FORMATS:
        if group.has(*family.needs):
            for parameter, delta in family.build(group).items():
                found.append((parameter, normalised(group, delta) if parameter == "weight" else delta))
    return found
