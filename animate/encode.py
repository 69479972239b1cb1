"""Frames as one file: GIF, WebP, animated PNG and MP4, with their settings inside."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import MissingPartError, OptionError
from .picture_text import encoding

Frames = Sequence[Image.Image]


def encode(frames: Frames, format: str, fps: float, text: str = "", quality: int | None = None) -> bytes:
    """A clip that plays for ever (an MP4: once), `text` inside. MissingPartError for MP4 without the package av."""
    if not len(frames):
        raise OptionError("no frames", expected="one picture or more")
    if format == "MP4":
        return _mp4(frames, fps, text, quality)
    data = io.BytesIO()
    first, *others = frames
    told = {"save_all": True, "append_images": others, "duration": durations(len(frames), fps, format)}
    first.save(data, format, **told, loop=0, **_ENCODINGS[format](text, quality))
    return data.getvalue()


def durations(count: int, fps: float, format: str) -> list[int]:
    """Milliseconds of each frame, rounded so that their sum keeps time; a GIF counts in hundredths of a second."""
    unit = 10 if format == "GIF" else 1
    ends = [round(k * 1000 / fps / unit) * unit for k in range(count + 1)]
    return [max(end - begin, unit) for begin, end in pairwise(ends)]


def _gif(text: str, quality: int | None) -> dict[str, Any]:
    return {"optimize": False, **({"comment": text.encode()} if text else {})}


def _pillow(format: str) -> Callable[[str, int | None], dict[str, Any]]:
    return lambda text, quality: encoding(format, text, quality)


_ENCODINGS = {"GIF": _gif, "WEBP": _pillow("WEBP"), "PNG": _pillow("PNG")}


def _mp4(frames: Sequence[Any], fps: float, text: str, quality: int | None) -> bytes:
    """H.264 in 4:2:0, which everything plays; it halves colours, so sides are cut to even numbers."""
    av = codec()
    data = io.BytesIO()
    arrays = [np.asarray(frame.convert("RGB")) for frame in frames]
    height, width = (side // 2 * 2 for side in arrays[0].shape[:2])
    with av.open(data, "w", format="mp4") as container:
        container.metadata["comment"] = text
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": str(_crf(quality))}
        for array in arrays:
            picture = np.ascontiguousarray(array[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return data.getvalue()


def codec() -> Any:
    """The package av. MissingPartError where it is not installed."""
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError:
        todo = "pip install av (the extra sigmagraft[video]), or write GIF, WebP or PNG"
        raise MissingPartError("no package av, which writes MP4", todo=todo) from None
    return av


def _crf(quality: int | None) -> int:
    """x264's rate factor: 18 where nothing is said, 1 (hardly a loss) at quality 100, 26 at 50."""
    return 18 if quality is None else round(1 + (100 - quality) / 2)
