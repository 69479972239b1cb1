"""The hint of inpainting ControlNets: the picture, the masked part told apart as transparent."""

from __future__ import annotations

from PIL import Image

from ...core.errors import OptionError
from .spec import preprocessor


@preprocessor(
    "inpaint",
    label="Inpaint",
    texts={"mask": "the mask's file, white is repainted; default: what is transparent"},
)
def inpaint(image: Image.Image, mask: Image.Image | str | None = None) -> Image.Image:
    """RGBA, transparent where it is to be repainted; the network is given -1 there. OptionError without a mask."""
    if mask is None and image.mode != "RGBA":
        raise OptionError(
            "an inpaint hint without a mask",
            "preprocessor inpaint",
            todo="give mask=FILE or a picture with holes",
        )
    out = image.convert("RGBA")
    if mask is not None:
        hole = (mask if isinstance(mask, Image.Image) else Image.open(mask)).convert("L").resize(image.size)
        out.putalpha(hole.point(lambda value: 0 if value >= 128 else 255))
    return out
