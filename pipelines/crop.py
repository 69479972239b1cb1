"""Inpainting only around the mask (`padding_mask_crop`), the result put back into the whole picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from PIL import Image

from ..core.errors import OptionError
from ..standalone.inpaint import Region, region


def cropped(call: SimpleNamespace, size: tuple[int, int]) -> Region:
    """The mask's surroundings at `size` (height, width), which the call's picture and mask become.

    OptionError for what is no PIL image, for another output than PIL images, and for a padding that is no number.
    """
    padding = call.padding_mask_crop
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise OptionError(f"padding_mask_crop {padding!r}", expected="pixels, 0 or more")
    for name in ("image", "mask_image"):
        if not isinstance(getattr(call, name), Image.Image):
            what = f"padding_mask_crop with {name} of type {type(getattr(call, name)).__name__}"
            raise OptionError(what, expected="a PIL image")
    if call.output_type != "pil":
        raise OptionError(f"padding_mask_crop with output_type {call.output_type!r}", expected="'pil'")
    if call.image.size != call.mask_image.size:
        sizes = "{}x{}, the image {}x{}".format(*call.mask_image.size, *call.image.size)
        raise OptionError(f"the mask is {sizes}", expected="a mask of the image's size")
    found = region(call.image, call.mask_image, (size[1], size[0]), 0.0, padding)
    call.image, call.mask_image = found.image, found.mask
    return found


def pasted(output: Any, region: Region) -> Any:
    """The pipeline's output with its pictures in the whole one."""
    if isinstance(output, tuple):
        return ([region.paste(image) for image in output[0]], *output[1:])
    output.images = [region.paste(image) for image in output.images]
    return output
