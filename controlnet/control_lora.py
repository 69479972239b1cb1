"""Control-LoRA: a ControlNet stored as its difference from the UNet, W = W_unet + up down, without an alpha.

Also files whose weights are plain differences (`difference` among their names).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.errors import FileError
from ..core.shapes import Shapes


def whole_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of the ControlNet that the pairs `name.up`, `name.down` make."""
    whole = {}
    for name, shape in shapes.items():
        if name.endswith(".up"):
            down = shapes[f"{name.removesuffix('.up')}.down"]
            whole[f"{name.removesuffix('.up')}.weight"] = (shape[0], *down[1:])
        elif not name.endswith(".down"):
            whole[name] = shape
    return whole


def merged(low_rank: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ControlNet's weights over the live UNet's `base`, in its dtype and on its device.

    Raises:
        FileError: a pair has no weight in the UNet, or one of another shape.
    """
    out = {}
    for name, tensor in low_rank.items():
        if name.endswith(".up"):
            stem = name.removesuffix(".up")
            out[f"{stem}.weight"] = _merge(stem, tensor, low_rank[f"{stem}.down"], base)
        elif not name.endswith(".down"):
            out[name] = tensor
    return out


def _merge(stem: str, up: Tensor, down: Tensor, base: Mapping[str, Tensor]) -> Tensor:
    weight = _base(base, f"{stem}.weight", (up.shape[0], *down.shape[1:]))
    # fp32: products of ranks are sums of hundreds of terms
    change = up.to(weight.device, torch.float32).flatten(1) @ down.to(weight.device, torch.float32).flatten(1)
    return weight + change.reshape(weight.shape).to(weight.dtype)


def added(differences: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differences added to the UNet's weights; what the UNet lacks (hint, zero convolutions) is whole.

    FileError where one has another shape than the UNet's weight.
    """
    return {
        name: tensor.to(base[name]) + _base(base, name, tuple(tensor.shape)) if name in base else tensor
        for name, tensor in differences.items()
    }


def _base(base: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    found = base.get(name)
    if found is None or tuple(found.shape) != shape:
        there = "none" if found is None else tuple(found.shape)
        raise FileError(
            f"this control changes the weight {name!r} of shape {shape}, the model's is {there}",
            todo="it was made for another family of models",
        )
    return found
