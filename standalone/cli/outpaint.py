"""`sigmagraft outpaint --image FILE --expand 64 PROMPT`: what is around a picture, painted."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence

from ...core.errors import OptionError
from . import generate, options
from .parser import Parser, number

FILLS = ("edge", "mirror", "blur", "noise")


def run(argv: Sequence[str]) -> int:
    """Parse and draw; the picture's own pixels stay, but for where it meets what is new."""
    parser = options.parser("outpaint", "Paint what is around a picture.")
    options.add_image(parser)
    _add_canvas(parser)
    args = parser.parse(argv, words="prompt")
    _default_strength(args)
    return generate.run(args, required=("image", "expand"))


def _default_strength(args: Namespace) -> None:
    """All of the new is drawn from noise where nobody says otherwise, not even the picture given by --from-image."""
    if not hasattr(args, "strength") and not hasattr(args, "from_image"):
        args.strength = 1.0


def _add_canvas(parser: Parser) -> None:
    add = parser.add_argument_group("canvas").add_argument
    add(
        "--expand",
        type=_margins,
        metavar="PX",
        help="pixels on all sides; left,top for both of each; or left,top,right,bottom",
    )
    add(
        "--overlap",
        type=number(int, 0, 512),
        metavar="PX",
        help="how far it reaches into the picture; default 16",
    )
    add("--fill", metavar="NAME", help=f"what stands there before: {', '.join(FILLS)}; default edge")
    options.add_blur(add)
    options.add_soft(add)


def _margins(text: str) -> list[int]:
    from ..outpaint import margins

    try:
        return list(margins(text))
    except OptionError as error:
        raise ArgumentTypeError(str(error)) from None
