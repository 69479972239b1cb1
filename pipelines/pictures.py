"""Pictures in and out, as the guides call them: load_image, make_image_grid, export_to_gif, export_to_video."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from PIL import Image, ImageOps

from ..core.errors import FileError, MissingPartError, OptionError
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
    image: Sequence[Image.Image], output_gif_path: str | os.PathLike[str] | None = None, fps: int = 10
) -> str:
    """Frames as an endless GIF; its path. FileError where it cannot be written."""
    if not image:
        raise OptionError("no frames", expected="one picture or more")
    path = Path(output_gif_path or _temporary(".gif"))
    data = io.BytesIO()
    first, *others = image
    options: dict[str, Any] = {"duration": round(1000 / fps), "loop": 0, "optimize": False}
    first.save(data, format="GIF", save_all=True, append_images=others, **options)
    return _published(path, data.getvalue())


def export_to_video(
    video_frames: Sequence[Any], output_video_path: str | os.PathLike[str] | None = None, fps: int = FPS
) -> str:
    """Frames (PIL, or arrays in [0, 1]) as an MP4, through the package av; its path.

    MissingPartError without av, FileError where the file cannot be written.
    """
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingPartError("no package av", todo="pip install av, or use export_to_gif") from None
    if not len(video_frames):
        raise OptionError("no frames", expected="one picture or more")
    frames = [_rgb(frame) for frame in video_frames]
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = (
            side // 2 * 2 for side in frames[0].shape[:2]
        )  # the codec halves colours
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame[: stream.height, : stream.width], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return _published(Path(output_video_path or _temporary(".mp4")), data.getvalue())


def _rgb(frame: Any) -> Any:
    if isinstance(frame, Image.Image):
        return np.ascontiguousarray(frame.convert("RGB"))
    array = np.asarray(frame)
    return np.ascontiguousarray(
        array if array.dtype == np.uint8 else (array * 255).round().clip(0, 255).astype("uint8")
    )


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
