"""`sigmagraft img2img --image FILE PROMPT`: a picture redrawn."""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, options


def run(argv: Sequence[str]) -> int:
    """Parse and draw."""
    parser = options.parser("img2img", "Redraw a picture after a prompt.")
    options.add_image(parser)
    return generate.run(parser.parse(argv, words="prompt"), required=("image",))
