"""`sigmagraft inpaint --image FILE --mask FILE PROMPT`: a part of a picture repainted.

A model with 9 input channels is given mask and picture, any other is kept to the mask by its latents; the
pipeline knows which of the two it loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, options


def run(argv: Sequence[str]) -> int:
    """Parse and draw."""
    parser = options.parser("inpaint", "Repaint the masked part of a picture.")
    options.add_image(parser)
    options.add_mask(parser)
    return generate.run(parser.parse(argv, words="prompt"), required=("image", "mask"))
