"""The hint of inpainting ControlNets: the picture, the masked part told apart as transparent."""

from __future__ import annotations

from PIL import Image

from ...core.errors import OptionError
from .spec import preprocessor


@preprocessor(
    "inpaint",
    label="Inpaint",
    holes=True,
    texts={"hole": "a mask's file, white is repainted; default: what is transparent"},
)
def inpaint(image: Image.Image, hole: Image.Image | str | None = None) -> Image.Image:
    """RGBA, transparent where it is to be repainted; the network is given -1 there. OptionError without a mask."""
    if hole is None and image.mode != "RGBA":
        raise OptionError(
            "an inpaint hint without a mask",
            "preprocessor inpaint",
            todo="give hole=FILE or a picture with holes",
        )
    out = image.convert("RGBA")
    if hole is not None:
        mask = (hole if isinstance(hole, Image.Image) else Image.open(hole)).convert("L").resize(image.size)
        out.putalpha(mask.point([255] * 128 + [0] * 128))
    return out
