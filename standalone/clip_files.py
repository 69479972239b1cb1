"""Clips as files: GIF, WebP, animated PNG and MP4, with their settings inside; or a PNG for each frame."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageSequence

from ..animate.encode import Frames, codec, durations, encode
from ..core.errors import FileError
from . import output
from .images import open_image
from .naming import Target

__all__ = ["FORMATS", "codec", "durations", "encode", "read_frames", "save"]
# extension, or what --format says -> what is written; frames: a PNG each
FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "apng": "PNG", "mp4": "MP4", "frames": "FRAMES"}

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


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
