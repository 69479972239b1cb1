"""`sigmagraft txt2img PROMPT`: pictures from words."""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, options


def run(argv: Sequence[str]) -> int:
    """Parse and draw; a picture given by --from-image may bring its own image and mask."""
    parser = options.parser("txt2img", "Draw pictures from a prompt.")
    return generate.run(parser.parse(argv, words="prompt"))
