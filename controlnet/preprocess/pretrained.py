"""Networks of transformers that look at one picture: loaded once, told the picture as their settings say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import FileError

USUAL = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@lru_cache(maxsize=2)
def network(auto: str, source: str) -> tuple[Any, Mapping[str, Any]]:
    """The network that the class `auto` of transformers makes of a folder or hub id, and its preprocessor_config.json.

    FileError where it cannot be had.
    """
    import transformers

    try:
        made = getattr(transformers, auto).from_pretrained(source).eval()
    except (OSError, ValueError) as error:
        what = f"no network for {auto} there: {error}"
        raise FileError(what, source, "a folder or hub id of one", "give it as model=...") from error
    return made, USUAL | _size_of(made.config) | _said(source)


def _size_of(config: Any) -> dict[str, Any]:
    backbone = getattr(config, "backbone_config", None)
    side = getattr(config, "image_size", None) or getattr(backbone, "image_size", None) or 512
    return {"size": {"height": side, "width": side}}


def _said(source: str) -> dict[str, Any]:
    if Path(source).is_dir():
        file = Path(source) / "preprocessor_config.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return json.loads(Path(hf_hub_download(source, "preprocessor_config.json")).read_text("utf-8"))
    except EntryNotFoundError:
        return {}


def pixels(image: Image.Image, settings: Mapping[str, Any]) -> Tensor:
    """[1, 3, h, w] at the size the network was trained at, its proportions kept where the settings say so."""
    width, height = _size(image, settings)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255.0)
    mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
    return ((x - mean) / std).permute(2, 0, 1)[None]


def _size(image: Image.Image, settings: Mapping[str, Any]) -> tuple[int, int]:
    size = settings["size"]
    if isinstance(size, Mapping) and "shortest_edge" in size:
        scale = size["shortest_edge"] / min(image.size)
        return round(image.width * scale), round(image.height * scale)
    height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    if not settings.get("keep_aspect_ratio"):
        return width, height
    scale, each = max(height / image.height, width / image.width), settings.get("ensure_multiple_of", 1)
    return tuple(max(round(n * scale / each), 1) * each for n in image.size)  # type: ignore[return-value]
