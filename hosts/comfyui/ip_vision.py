"""Image encoders for image prompts: ComfyUI's CLIP_VISION, or a file read by this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...controlnet.clip_vision import ImageEncoder
from ...controlnet.ip_apply import Encode
from ...controlnet.ip_features import Features
from ...controlnet.ip_image import pixels
from ...core.errors import MissingPartError
from . import comfy
from .control_networks import Network


def by_host(vision: Any) -> Encode:
    """Features from a CLIP_VISION. Pictures are cut and scaled as in every other system of this package."""

    def encode(images: Sequence[Image.Image], wanted: Sequence[str], crop: str) -> Features:
        found = [_seen(vision, pixels([image], vision.image_size, crop)) for image in images]
        joint = {name: torch.cat([one[name] for one in found]) for name in wanted}
        side = vision.image_size
        zero = _seen(vision, torch.zeros(1, 3, side, side))["hidden"] if "hidden" in wanted else None
        return Features(**joint, zero_hidden=zero)

    return encode


def _seen(vision: Any, values: Tensor) -> dict[str, Tensor]:
    comfy("model_management").load_model_gpu(vision.patcher)
    with torch.no_grad():
        out = vision.model(pixel_values=values.to(vision.load_device).float(), intermediate_output=-2)
    return {"last": out[0].cpu().float(), "hidden": out[1].cpu().float(), "pooled": out[2].cpu().float()}


def last_hidden(vision: Any) -> Callable[[object], Tensor]:
    """A picture -> the last hidden state [1, 257, 1024], for a T2I style adapter."""

    def see(image: object) -> Tensor:
        assert isinstance(image, Image.Image)
        return _seen(vision, pixels([image], vision.image_size, "center"))["last"]

    return see


def by_file(network: Network[ImageEncoder]) -> Encode:
    """The same from a file."""

    def encode(images: Sequence[Image.Image], wanted: Sequence[str], crop: str) -> Features:
        found = network.loaded(torch.float32).encode(images, wanted, crop)
        return found.map(lambda x: x.cpu())

    return encode


def missing(name: str, where: str, source: object) -> Encode:
    """What there is where neither is given."""

    def encode(images: Sequence[Image.Image], wanted: Sequence[str], crop: str) -> Features:
        raise MissingPartError(
            f"this IP-Adapter needs its image encoder, {name}",
            source,
            "a CLIP_VISION, or a file chosen in the loader",
            f"get it from {where} and put it into models/clip_vision",
        )

    return encode
