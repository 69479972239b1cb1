"""Pictures as people give them -> tensors, and tensors -> pictures as people ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import OptionError, nearest
from ..standalone import latents as spaces
from ..standalone.model import Model

LANCZOS = Image.Resampling.LANCZOS


def size_of(image: Any, multiple: int = 8) -> tuple[int, int]:
    """(height, width) of the first picture, cut to a multiple of the autoencoder's factor."""
    first = image[0] if isinstance(image, Sequence) else image
    if isinstance(first, Image.Image):
        width, height = first.size
    elif isinstance(first, np.ndarray):
        height, width = first.shape[-3:-1]
    elif isinstance(first, Tensor):
        height, width = first.shape[-2:]
    else:
        raise _no_picture(first)
    return height // multiple * multiple, width // multiple * multiple


def to_batch(image: Any, height: int, width: int) -> Tensor:
    """PIL image(s), array(s) [H, W, 3] in [0, 1] or tensor(s) [3, H, W] -> [b, 3, height, width] in [-1, 1].

    A tensor with negative numbers is taken as it is, in [-1, 1]; others are in [0, 1]. OptionError for anything else.
    """
    if isinstance(image, Tensor):
        batch = _fitted((image if image.ndim == 4 else image[None]).float(), height, width)
        return batch if image.min() < 0 else batch * 2 - 1
    if isinstance(image, np.ndarray):
        rows = torch.from_numpy(image).float()
        return to_batch((rows if rows.ndim == 4 else rows[None]).permute(0, 3, 1, 2), height, width)
    if isinstance(image, Image.Image):
        resized = (
            image if image.size == (width, height) else image.convert("RGB").resize((width, height), LANCZOS)
        )
        return spaces.to_tensor(resized)
    if isinstance(image, Sequence) and len(image):
        return torch.cat([to_batch(each, height, width) for each in image])
    raise _no_picture(image)


def as_picture(image: Any) -> Image.Image:
    """One picture of any kind that `to_batch` takes, as PIL, 8 bits a channel. OptionError for several."""
    if isinstance(image, Image.Image):
        return image
    height, width = size_of(image, 1)
    found = spaces.to_images(to_batch(image, height, width))
    if len(found) != 1:
        raise OptionError(f"{len(found)} pictures", expected="one for each ControlNet")
    return found[0]


def to_mask(mask: Any, height: int, width: int) -> Tensor:
    """As `to_batch`, one channel [b, 1, height, width], 1 where it is at least 0.5 (repainted) and 0 elsewhere."""
    return (to_grey(mask, height, width) >= 0.5).float()


def to_grey(mask: Any, height: int, width: int) -> Tensor:
    """As `to_batch`, one channel [b, 1, height, width] in 0..1."""
    if isinstance(mask, Image.Image):
        grey = mask.resize((width, height), LANCZOS).convert("L")
        return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255.0)[None, None]
    if isinstance(mask, np.ndarray):
        return to_grey(torch.from_numpy(mask), height, width)
    if isinstance(mask, Tensor):
        return _fitted(mask.float().reshape(-1, 1, *mask.shape[-2:]), height, width)
    if isinstance(mask, Sequence) and len(mask):
        return torch.cat([to_grey(each, height, width) for each in mask])
    raise _no_picture(mask)


def _fitted(batch: Tensor, height: int, width: int) -> Tensor:
    if batch.shape[-2:] == (height, width):
        return batch
    return torch.nn.functional.interpolate(batch, size=(height, width))


def _no_picture(image: object) -> OptionError:
    return OptionError(
        f"a picture of type {type(image).__name__}",
        expected="a PIL image, an array, a tensor, or a list of them",
    )


def _pil(model: Model, latents: Tensor) -> list[Image.Image]:
    return spaces.decode(model, latents)


def _array(model: Model, latents: Tensor) -> np.ndarray[Any, Any]:
    return _tensor(model, latents).cpu().permute(0, 2, 3, 1).float().numpy()


def _tensor(model: Model, latents: Tensor) -> Tensor:
    return (spaces.decode_pixels(model, latents) / 2 + 0.5).clamp(0, 1)


OUTPUTS: dict[str, Callable[[Model, Tensor], Any]] = {
    "pil": _pil,
    "np": _array,
    "pt": _tensor,
    "latent": lambda model, latents: latents,
}


def check_output(name: str) -> None:
    """Raises OptionError for an unknown output_type, before anything runs."""
    if name not in OUTPUTS:
        raise OptionError(f"output_type {name!r}", todo=nearest(name, OUTPUTS))


def finished(model: Model, latents: Tensor, output_type: str) -> Any:
    """Scaled latents as the pictures that `output_type` names."""
    return OUTPUTS[output_type](model, latents)
