"""Larger pictures or latents for a second pass, by interpolation. No upscaling network is among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import OptionError
from ..core.registry import Registry

Size = tuple[int, int]


@dataclass(frozen=True)
class Upscaler:
    """`latents` (x [b, c, h, w], (height, width)) or `pixels` (image, (width, height)); the other is None.

    Labels are A1111's.
    """

    name: str
    label: str
    latents: Callable[[Tensor, Size], Tensor] | None = None
    pixels: Callable[[Image.Image, Size], Image.Image] | None = None
    aliases: tuple[str, ...] = ()


UPSCALERS: Registry[Upscaler] = Registry("upscaler")


def _latent(name: str, label: str, mode: str, antialias: bool = False) -> None:
    def enlarge(x: Tensor, size: Size) -> Tensor:
        return torch.nn.functional.interpolate(x.float(), size, mode=mode, antialias=antialias).to(x)

    UPSCALERS.add(Upscaler(name, label, latents=enlarge))


def _pixel(name: str, label: str, filter: Image.Resampling, aliases: tuple[str, ...] = ()) -> None:
    def enlarge(image: Image.Image, size: Size) -> Image.Image:
        return image.resize(size, filter)

    UPSCALERS.add(Upscaler(name, label, pixels=enlarge, aliases=aliases))


_latent("latent", "Latent", "bilinear")
_latent("latent_antialiased", "Latent (antialiased)", "bilinear", antialias=True)
_latent("latent_bicubic", "Latent (bicubic)", "bicubic")
_latent("latent_bicubic_antialiased", "Latent (bicubic antialiased)", "bicubic", antialias=True)
_latent("latent_nearest", "Latent (nearest)", "nearest")
_latent("latent_nearest_exact", "Latent (nearest-exact)", "nearest-exact")
_pixel("lanczos", "Lanczos", Image.Resampling.LANCZOS, ("None",))
_pixel("nearest", "Nearest", Image.Resampling.NEAREST)
_pixel("bicubic", "Bicubic", Image.Resampling.BICUBIC)


def find_upscaler(name: str) -> Upscaler:
    """OptionError for one that is not there, as all that are networks of their own (ESRGAN and its kin) are not."""
    if name not in UPSCALERS:
        known = ", ".join(UPSCALERS.names())
        todo = f"none of these is a network such as ESRGAN; take one of {known}"
        raise OptionError(f"upscaler {name!r}", "--hires-upscaler", todo=todo)
    return UPSCALERS[name]
