"""Pictures in: any file Pillow reads, checked and brought to 8-bit RGB (or grey for masks); sizes, and
grids.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..controlnet.resize import RESIZE as RESIZE
from ..controlnet.resize import Size, eight_bit
from ..controlnet.resize import fit_image as fit_image
from ..core.errors import FileError, OptionError

MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 picture; a small file can claim far more and fill the memory


def open_image(path: str | Path) -> Image.Image:
    """The decoded picture, turned as its EXIF orientation says. FileError for what cannot be read or is too
    large.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            image = Image.open(path)
            _limit(image.size, path)
            image.load()
            return ImageOps.exif_transpose(image) or image
    except FileNotFoundError:
        raise FileError("no such picture", where=path, todo="check the path") from None
    except Image.DecompressionBombError as error:
        raise FileError(
            f"the picture is too large ({error})", path, f"at most {MAX_PIXELS:,} pixels"
        ) from None
    except UnidentifiedImageError:
        raise FileError(
            "not a picture", path, "a PNG, JPEG, WebP, TIFF, BMP or GIF file", "check that the path is right"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise FileError(
            f"cannot read this picture: {error}", path, todo="save or download it again"
        ) from None


def _limit(size: Size, path: Path) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise FileError(
            f"the picture has {width}x{height} = {width * height:,} pixels",
            path,
            f"at most {MAX_PIXELS:,}",
            "scale it down first",
        )


def load_image(path: str | Path) -> Image.Image:
    """A picture as 8-bit RGB; what is transparent becomes white."""
    image = eight_bit(open_image(path))
    if not _transparent(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def load_mask(path: str | Path) -> Image.Image:
    """A mask as 8-bit grey, white where to repaint; what is transparent counts as black (kept)."""
    image = eight_bit(open_image(path))
    if not _transparent(image):
        return image.convert("L")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("L")


def load_hole(path: str | Path) -> Image.Image:
    """What is transparent in a picture as a mask: white where to repaint. OptionError where nothing is."""
    image = open_image(path)
    if not _transparent(image):
        raise OptionError(
            "nothing in this picture is transparent", path, "a hole to repaint", "give --mask FILE"
        )
    return ImageOps.invert(image.convert("RGBA").getchannel("A"))


def _transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA")


def check_mask(
    mask: Image.Image, image: Image.Image, resize: bool, where: object | None = None
) -> Image.Image:
    """The mask at the picture's size: as it is, scaled when `resize`, OptionError naming both sizes
    otherwise.
    """
    if mask.size == image.size:
        return mask
    if not resize:
        raise OptionError(
            f"the mask is {_text(mask.size)} pixels and the picture {_text(image.size)}",
            where,
            "the same size",
            "make them equal, or add --resize-mask to scale the mask",
        )
    return mask.resize(image.size, Image.Resampling.BILINEAR)


def check_size(size: Size, multiple: int = 8, where: object | None = None) -> Size:
    """`size` itself; OptionError naming the nearest valid sizes when a side is no multiple of `multiple`."""
    if all(side > 0 and side % multiple == 0 for side in size):
        return size
    lower: Size = (_down(size[0], multiple), _down(size[1], multiple))
    upper: Size = (_up(size[0], multiple), _up(size[1], multiple))
    raise OptionError(
        f"the size {_text(size)} cannot be made",
        where,
        f"width and height divisible by {multiple}",
        f"the nearest are {_text(lower)} and {_text(upper)}",
    )


def _down(side: int, multiple: int) -> int:
    return max(multiple, side // multiple * multiple)


def _up(side: int, multiple: int) -> int:
    return max(multiple, -(-side // multiple) * multiple)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """All pictures on one sheet, row by row, as near to a square as their number allows; cells of the
    largest size.
    """
    if not images:
        raise OptionError("no pictures to put on a grid", expected="at least one")
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
