"""`sigmagraft resume FILE`: a run that was stopped with --stop-at, gone on with."""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, options, state
from .parser import Parser


def run(argv: Sequence[str]) -> int:
    """Parse and draw the rest; the pixels are those of a run that was never stopped."""
    parser = Parser("resume", "Go on with a run that was stopped with --stop-at.")
    parser.add_argument("state", metavar="FILE", help="what --save-state has written")
    options.add_model(parser)
    options.add_running(parser)
    options.add_output(parser)
    state.add_stop(parser)
    return generate.run(parser.parse(argv))
