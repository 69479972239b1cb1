"""Pictures in and out, as the guides call them: load_image, make_image_grid, export_to_gif, export_to_video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from PIL import Image, ImageOps

from ..core.errors import FileError, OptionError
from ..standalone import clip_files
from ..standalone.images import open_image

LIMIT = 200 << 20  # bytes of a picture fetched from a URL
TIMEOUT = 30  # seconds without an answer
FPS = 8


def load_image(image: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """A picture from a path, a URL (http, https) or PIL, upright and RGB. FileError for what cannot be read."""
    if isinstance(image, Image.Image):
        return (ImageOps.exif_transpose(image) or image).convert("RGB")
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        return load_image(_fetched(image))
    return open_image(Path(image)).convert("RGB")


def _fetched(url: str) -> Image.Image:
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            data = answer.read(LIMIT + 1)
    except (URLError, OSError, ValueError) as error:
        raise FileError(
            f"cannot be fetched ({error})", url, todo="check the address and the network"
        ) from None
    if len(data) > LIMIT:
        raise FileError("larger than 200 MB", url, "a picture")
    with tempfile.TemporaryDirectory() as folder:  # open_image knows all that can be wrong with a file
        path = Path(folder) / "picture"
        path.write_bytes(data)
        try:
            return open_image(path)
        except FileError as error:
            error.where = url
            raise


def make_image_grid(
    images: Sequence[Image.Image], rows: int, cols: int, resize: int | None = None
) -> Image.Image:
    """rows x cols pictures as one, row by row; `resize`: pixels on a side of each. OptionError for another number."""
    if len(images) != rows * cols or not images:
        raise OptionError(f"{len(images)} pictures", expected=f"rows x cols = {rows * cols}")
    if resize is not None:
        images = [image.resize((resize, resize)) for image in images]
    width, height = images[0].size
    grid = Image.new("RGB", (cols * width, rows * height))
    for place, image in enumerate(images):
        grid.paste(image, (place % cols * width, place // cols * height))
    return grid


def export_to_gif(
    image: Sequence[Image.Image], output_gif_path: str | os.PathLike[str] | None = None, fps: float = 10
) -> str:
    """Frames as an endless GIF; its path. FileError where it cannot be written."""
    return _published(Path(output_gif_path or _temporary(".gif")), clip_files.encode(image, "GIF", fps))


def export_to_video(
    video_frames: Sequence[Any], output_video_path: str | os.PathLike[str] | None = None, fps: float = FPS
) -> str:
    """Frames (PIL, or arrays in [0, 1]) as an MP4, through the package av; its path.

    MissingPartError without av, FileError where the file cannot be written.
    """
    clip_files.codec()
    data = clip_files.encode([_picture(frame) for frame in video_frames], "MP4", fps)
    return _published(Path(output_video_path or _temporary(".mp4")), data)


def _picture(frame: Any) -> Image.Image:
    if isinstance(frame, Image.Image):
        return frame
    array = np.asarray(frame)
    whole = array if array.dtype == np.uint8 else (array * 255).round().clip(0, 255).astype("uint8")
    return Image.fromarray(whole)


def _temporary(suffix: str) -> str:
    handle, name = tempfile.mkstemp(suffix=suffix)
    os.close(handle)
    return name


def _published(path: Path, data: bytes) -> str:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileError(f"cannot write: {error}", path, todo="choose another place") from None
    return str(path)
