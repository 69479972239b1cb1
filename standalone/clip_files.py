"""Clips as files: GIF, WebP, animated PNG and MP4, with their settings inside; or a PNG for each frame."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from ..core.errors import FileError, MissingPartError, OptionError
from . import output
from .images import open_image
from .naming import Target

Frames = Sequence[Image.Image]
# extension, or what --format says -> what is written; frames: a PNG each
FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "apng": "PNG", "mp4": "MP4", "frames": "FRAMES"}

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


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
    return lambda text, quality: output.encoding(Target("", format, quality, ""), text)


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


def save(frames: Frames, path: Path, target: Target, fps: float, text: str = "") -> Path:
    """The file, or for frames the folder, that was written; never over one that is there. FileError."""
    if target.format != "FRAMES":
        return output.write(encode(frames, target.format, fps, text, target.quality), path)
    folder = _fresh(path.with_suffix(""))
    picture = Target("", "PNG", None, ".png")
    for number, frame in enumerate(frames, 1):
        output.save(frame, folder / f"{number:05}.png", picture, text)
    return folder


def _fresh(folder: Path) -> Path:
    """A folder of this name, numbered up where there is one."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    output.check_folder(found)
    return found


def read_frames(path: str | Path) -> list[Image.Image]:
    """The pictures of a GIF, WebP or animated PNG, or those in a folder in the order of their names. FileError."""
    place = Path(path).expanduser()
    if place.is_dir():
        files = [file for file in sorted(place.iterdir()) if file.suffix.lower() in PICTURES]
        if not files:
            raise FileError("no pictures in this folder", place, ", ".join(PICTURES))
        return [open_image(file).convert("RGB") for file in files]
    open_image(place)  # says what is wrong with it
    with Image.open(place) as clip:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(clip)]
