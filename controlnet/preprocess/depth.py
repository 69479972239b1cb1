"""Depth by a network of transformers (DPT, Depth-Anything and whatever else it can load)."""

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
from torch.nn import functional as F

from ...core.errors import FileError
from .spec import preprocessor

USUAL = "Intel/dpt-hybrid-midas"
_MEAN = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@preprocessor(
    "depth",
    label="Depth (DPT, Depth-Anything)",
    texts={"model": f"a folder of weights or a hub id of a depth network; default {USUAL}"},
    aliases=("depth_midas", "depth_anything"),
)
def depth(image: Image.Image, model: str = USUAL) -> Image.Image:
    """Near is white: the network's answer scaled to the picture (bicubic), from its least to its largest value."""
    network, settings = _network(str(model))
    with torch.inference_mode():
        found = network(pixel_values=_pixels(image.convert("RGB"), settings)).predicted_depth
    size = (image.height, image.width)
    found = F.interpolate(found[:, None].float(), size=size, mode="bicubic", align_corners=False)
    low, high = found.aminmax()
    scaled = (found - low) / (high - low).clamp(min=1e-6) * 255.0
    return Image.fromarray(scaled[0, 0].clamp(0, 255).byte().cpu().numpy()).convert("RGB")


@lru_cache(maxsize=1)
def _network(source: str) -> tuple[Any, Mapping[str, Any]]:
    """The network and its preprocessor_config.json. FileError where it cannot be had."""
    from transformers import AutoModelForDepthEstimation

    try:
        network = AutoModelForDepthEstimation.from_pretrained(source).eval()
    except (OSError, ValueError) as error:
        raise FileError(
            f"no depth network there: {error}", source, "a folder or hub id of one", "give it as model=..."
        ) from error
    return network, _MEAN | _size_of(network.config) | _said(source)


def _size_of(config: Any) -> dict[str, Any]:
    side = getattr(config, "image_size", None) or getattr(config.backbone_config, "image_size", 384)
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


def _pixels(image: Image.Image, settings: Mapping[str, Any]) -> Tensor:
    """[1, 3, h, w] at the size the network was trained at, its proportions kept where the settings say so."""
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    if settings.get("keep_aspect_ratio"):
        scale = max(height / image.height, width / image.width)
        each = settings.get("ensure_multiple_of", 1)
        height, width = (max(round(n * scale / each), 1) * each for n in (image.height, image.width))
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255.0)
    mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
    return ((x - mean) / std).permute(2, 0, 1)[None]
