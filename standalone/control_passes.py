"""Which of hires fix's two passes a control or an image prompt acts in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..core.errors import OptionError

if TYPE_CHECKING:
    from .request import Request


class Chooses(Protocol):
    """What says "both", "base" or "hires"."""

    @property
    def passes(self) -> str: ...


Chooser = TypeVar("Chooser", bound=Chooses)


def in_pass(one: Chooses, request: Request) -> bool:
    """Whether it acts in the pass that this request is; a run of one pass is a base pass."""
    return one.passes in ("both", part_of(request))


def prepared(given: Sequence[Chooser], request: Request) -> list[Chooser]:
    """What is made ready for a pass: before the first also what waits for the second, so that mistakes in it are
    told before anything is drawn. OptionError for one that waits for a second pass where there is none.
    """
    if part_of(request) == "hires":
        return [one for one in given if in_pass(one, request)]
    if not getattr(request, "part", "") and any(one.passes == "hires" for one in given):
        what = "pass=hires of a control or an image prompt, in a run of one pass"
        raise OptionError(what, todo="ask for a second pass with hires (--hires 2), or leave pass out")
    return list(given)


def part_of(request: Request) -> str:
    """base or hires; what is asked without a Request (a diffusers pipeline's call) has one pass."""
    return getattr(request, "part", "") or "base"
