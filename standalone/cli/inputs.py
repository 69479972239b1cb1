"""The picture and mask of img2img and inpaint, as the pipeline takes them."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageOps

from ...core.errors import OptionError
from .. import images
from ..outpaint import OVERLAP, canvas

MULTIPLE = 8  # what the pipeline rounds a picture's sides down to when no size is asked for


def load(settings: dict[str, Any]) -> tuple[Image.Image | None, Image.Image | None]:
    """Image and mask of one size, or None. FileError: cannot be read; OptionError: the sizes differ."""
    if "image" not in settings:
        if "mask" in settings:
            raise OptionError("a mask without a picture", "--mask", todo="give --image as well")
        return None, None
    image = images.load_image(settings["image"])
    if "expand" in settings:
        return _widened(settings, image)
    mask = _mask(settings, image)
    if settings.get("only_masked") is not None and mask is not None:
        return image, mask  # --size is then what the mask's surroundings are worked on at
    size = settings.get("size")
    if size is None or size == _whole(image.size):
        return image, mask
    mode = settings["resize"]
    return images.fit_image(image, size, mode), None if mask is None else images.fit_image(mask, size, mode)


def _widened(settings: dict[str, Any], image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The picture on its larger canvas, and what is new of it. OptionError for a --size that is not the canvas's."""
    more = {"fill": settings.get("fill", "edge"), "overlap": settings.get("overlap", OVERLAP)}
    wide, mask = canvas(image, tuple(settings["expand"]), seed=settings.get("seed", 0), **more)
    if settings.setdefault("size", wide.size) != wide.size:
        what = "--size {}x{}, the canvas is {}x{}".format(*settings["size"], *wide.size)
        raise OptionError(what, todo="leave --size out: the canvas is the picture and --expand")
    return wide, mask


def _mask(settings: dict[str, Any], image: Image.Image) -> Image.Image | None:
    if "mask" not in settings:
        return None
    # A picture as its own mask: what somebody rubbed out of it is to be painted.
    own = settings["mask"] == settings["image"]
    mask = images.load_hole(settings["mask"]) if own else images.load_mask(settings["mask"])
    mask = images.check_mask(mask, image, settings.get("resize_mask", False), where=settings["mask"])
    mask = ImageOps.invert(mask) if settings.get("invert_mask") else mask
    if mask.getextrema() == (0, 0):
        raise OptionError(
            "the mask is all black, nothing would be repainted", settings["mask"], "white to repaint"
        )
    return mask


def _whole(size: images.Size) -> images.Size:
    width, height = (max(side // MULTIPLE, 1) * MULTIPLE for side in size)
    return width, height
