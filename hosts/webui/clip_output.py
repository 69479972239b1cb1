"""Clips as files and as a web UI shows them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ...animate.encode import encode
from .clip_choice import Clip

FOLDER = "clips"  # within the host's folder of pictures


def shown(p: Any, processed: Any, clip: Clip, kept: bool) -> None:
    """Every batch of frames as a clip, in front of the pictures as the host's grid is; `kept`: written to a file.

    The API answers with base64, the page with the file, which a gallery of old shows unless it is a film.
    """
    images = [
        one for one in processed.images[processed.index_of_first_image :] if isinstance(one, Image.Image)
    ]
    for first in range(0, min(len(images), p.n_iter * clip.frames), clip.frames)[::-1]:
        text = processed.infotexts[processed.index_of_first_image + first]
        data = encode(images[first : first + clip.frames], clip.format, clip.fps, text)
        told: str = base64.b64encode(data).decode()
        if kept or not p.is_api:
            path = _write(
                data, Path(p.outpath_samples) / FOLDER, f"{processed.all_seeds[first]}", clip.format
            )
            processed.comments += f"\nclip: {path}"
            told = told if p.is_api else str(path)
        if p.is_api or clip.format != "MP4" or int(gr.__version__.split(".")[0]) >= 4:
            _put(processed, told, text)


def _put(processed: Any, clip: str, text: str) -> None:
    processed.images.insert(0, clip)
    processed.infotexts.insert(0, text)
    processed.index_of_first_image += 1


def _write(data: bytes, folder: Path, name: str, format: str) -> Path:
    """A file of this name, numbered up where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10**6):
        path = folder / f"{name}{f'-{number}' if number > 1 else ''}.{format.lower()}"
        try:
            with path.open("xb") as file:
                file.write(data)
            return path.resolve()
        except FileExistsError:
            continue
    raise FileExistsError(folder / name)
