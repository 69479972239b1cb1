"""The options that say which sigmas are visited, and SDXL's sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parser import Parser, assignment, named, number, numbers, pair

SCHEDULE = ("schedule", "schedule_options", "sigmas", "timesteps")
SIZES = ("original_size", "crop", "target_size", "aesthetic_score")


def add_schedule(add: Callable[..., Any]) -> None:
    """A schedule with its options, or one's own list."""
    add(
        "--schedule",
        type=named,
        metavar="NAME",
        help="see `sigmagraft schedules`; NAME:option=value,... sets options; default: the sampler's own",
    )
    add_schedule_option(add)
    add("--sigmas", type=numbers, metavar="LIST", help="your own instead of a schedule, such as 14.6,3,1")
    add("--timesteps", type=numbers, metavar="LIST", help="your own instead of a schedule: 999,749,499,249")


def add_schedule_option(add: Callable[..., Any]) -> None:
    """One option of the schedule."""
    add(
        "--schedule-option",
        type=assignment,
        action="append",
        metavar="K=V",
        help="an option of the schedule; may be repeated",
    )


def add_sizes(parser: Parser) -> None:
    """What SDXL was told of each picture it was trained on."""
    add = parser.add_argument_group("SDXL's sizes").add_argument
    add("--original-size", type=pair, metavar="WxH", help="of the picture before it was cut; default: --size")
    add("--crop", type=pair, metavar="X,Y", help="where it was cut, left and top; default 0,0")
    add("--target-size", type=pair, metavar="WxH", help="after it was cut; default: --size")
    add(
        "--aesthetic-score",
        type=number(float, 0, 10),
        metavar="X",
        help="of the refiner, for the prompt; default 6",
    )
