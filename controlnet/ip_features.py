"""What an image encoder or a face recogniser found in the reference images: combined, kept in files, read from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.checkpoint import open_weights
from ..core.errors import FileError, OptionError, nearest

_RANKS = {"pooled": 2, "hidden": 3, "face": 2, "zero_hidden": 3}


@dataclass(frozen=True)
class Features:
    """Of n images: pooled [n, d], hidden [n, t, d] of the last layer but one, face [n, 512].

    `zero_hidden` [1, t, d] are the hidden states of a grey picture (zeros after normalisation), which stand for no
    image where a projection reads hidden states.
    """

    pooled: Tensor | None = None
    hidden: Tensor | None = None
    face: Tensor | None = None
    zero_hidden: Tensor | None = None

    def __len__(self) -> int:
        return next((len(value) for _, value in self.given()), 0)

    def given(self) -> list[tuple[str, Tensor]]:
        """Name and value of those that are there, without the grey picture's."""
        return [(n, v) for n in ("pooled", "hidden", "face") if (v := getattr(self, n)) is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same with `change` done to everything but the grey picture's."""
        return replace(self, **{name: change(value) for name, value in self.given()})

    def without_image(self) -> Features:
        """What stands for no image: zeros, or the grey picture's hidden states."""
        zeros = {name: torch.zeros_like(value[:1]) for name, value in self.given() if name != "hidden"}
        return Features(**zeros, hidden=self.zero_hidden)


Combine = Callable[[Tensor], Tensor]


def _unit(x: Tensor) -> Tensor:
    """Each image's features [n, ...] at length 1."""
    return x / _length(x)


def _length(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, *[1] * (x.ndim - 1))


def _over_images(x: Tensor) -> Tensor:
    """ComfyUI_IPAdapter_plus divides each channel by its norm over the images, so one image becomes its signs."""
    return x / x.norm(dim=0, keepdim=True).clamp(min=1e-12)


# How the features x [n, ...] of several images become those of one; `concat` keeps all, as tokens side by side.
COMBINE: dict[str, Combine] = {
    "concat": lambda x: x,
    "add": lambda x: x.sum(0, keepdim=True),
    "subtract": lambda x: x[:1] - x[1:].mean(0, keepdim=True) if len(x) > 1 else x,
    "average": lambda x: x.mean(0, keepdim=True),
    "norm-average": lambda x: _unit(x).mean(0, keepdim=True) * _length(x).mean(),
    "norm-average@comfyui": lambda x: _over_images(x).mean(0, keepdim=True) if len(x) > 1 else x,
}


def combined(features: Features, how: str) -> Features:
    """The features of several images as those of one (or of all, for `concat`)."""
    return features.map(COMBINE[check_combine(how)])


def check_combine(how: str) -> str:
    """`how` itself; OptionError with the nearest name where there is none such."""
    name = how.strip().lower().replace(" ", "-").replace("_", "-")
    if name not in COMBINE:
        raise OptionError(f"combining by {how!r}", todo=nearest(name, COMBINE))
    return name


def joined(parts: list[Features]) -> Features:
    """The features of all these images; every part must have the same kinds."""
    names = [name for name, _ in parts[0].given()]
    joint = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Features(**joint, zero_hidden=parts[0].zero_hidden)


def save_features(features: Features, path: str | Path) -> None:
    """Write them to a .safetensors file."""
    from safetensors.torch import save_file

    tensors = {
        f.name: v.cpu().contiguous() for f in fields(features) if (v := getattr(features, f.name)) is not None
    }
    save_file(tensors, str(path), {"format": "sigmagraft image features"})


def load_features(path: str | Path) -> Features:
    """Features from our file, or from one tensor in a pickle as ComfyUI_IPAdapter_plus saves them (.ipadpt).

    FileError where it holds anything else.
    """
    checkpoint = open_weights(path)
    tensors = {name: tensor.float() for name, tensor in checkpoint.tensors().items()}
    if len(tensors) == 1 and not set(tensors) & set(_RANKS):
        (only,) = tensors.values()
        only = only.squeeze(1) if only.ndim == 3 and only.shape[1] == 1 else only
        tensors = {_guess(only): only}
    if not tensors or any(n not in _RANKS or v.ndim != _RANKS[n] for n, v in tensors.items()):
        shown = ", ".join(f"{n} {tuple(v.shape)}" for n, v in list(tensors.items())[:4])
        raise FileError(
            f"it holds {shown}", path, "image features: pooled [n, d], hidden [n, t, d] or face [n, 512]"
        )
    if any(not v.isfinite().all() for v in tensors.values()):
        raise FileError("its features hold NaN or infinite values", path)
    return Features(**tensors)


def _guess(tensor: Tensor) -> str:
    if tensor.ndim == 3:
        return "hidden"
    return "face" if tensor.shape[-1] == 512 else "pooled"
