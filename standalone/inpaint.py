"""Masks: what to repaint, in pixels and in latents, and how the untouched rest stays untouched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor

_LEAST = 1 / 255  # what is black in the mask is never repainted
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class Region:
    """The part of a picture that is repainted, scaled to the size the model works at."""

    image: Image.Image
    mask: Image.Image  # L, white = repaint, blurred
    box: Box
    original: Image.Image
    original_mask: Image.Image

    def paste(self, painted: Image.Image) -> Image.Image:
        """The original with the repainted region in it; pixels where the mask is black are the original's own."""
        left, top, right, bottom = self.box
        full = self.original.copy()
        full.paste(painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        return Image.composite(full, self.original, self.original_mask)

    def softened(self) -> Region:
        """The same pasted wherever the mask is not near to black: its grey has had its effect while drawing."""
        return replace(
            self, original_mask=self.original_mask.point([min(4 * value, 255) for value in range(256)])
        )


def region(
    image: Image.Image, mask: Image.Image, size: tuple[int, int], blur: float, padding: int | None
) -> Region:
    """The whole picture, or with ``padding`` only the mask's surroundings, at ``size`` (width, height)."""
    image, soft = image.convert("RGB"), blurred(mask.convert("L"), blur)
    box = (0, 0, *image.size) if padding is None else _surroundings(soft, padding, size[0] / size[1])
    resized = image.crop(box).resize(size, Image.Resampling.LANCZOS)
    return Region(resized, soft.crop(box).resize(size, Image.Resampling.BILINEAR), box, image, soft)


def blurred(mask: Image.Image, blur: float) -> Image.Image:
    """Gaussian blur that only grows the mask's soft edge: what was asked to be repainted stays fully repainted."""
    if blur <= 0:
        return mask
    return ImageChops.lighter(mask, mask.filter(ImageFilter.GaussianBlur(blur)))


def _surroundings(mask: Image.Image, padding: int, aspect: float) -> Box:
    """The mask's bounding box grown by ``padding`` and to ``aspect`` (width / height), kept inside the picture."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    width, height = right - left + 2 * padding, bottom - top + 2 * padding
    width, height = max(width, round(height * aspect)), max(height, round(width / aspect))
    spans = [
        _inside((low + high) / 2, length, limit)
        for low, high, length, limit in ((left, right, width, mask.width), (top, bottom, height, mask.height))
    ]
    return (spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def _inside(middle: float, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    start = min(max(round(middle - length / 2), 0), limit - length)
    return start, start + length


def latent_mask(mask: Image.Image, height: int, width: int) -> Tensor:
    """[1, 1, height, width] in [0, 1]: each latent pixel repainted as much as its most repainted pixel."""
    return torch.nn.functional.adaptive_max_pool2d(pixel_mask(mask), (height, width))


def soft_mask(mask: Image.Image, height: int, width: int) -> Tensor:
    """[1, 1, height, width] in [0, 1]: the mean of each latent pixel."""
    return torch.nn.functional.adaptive_avg_pool2d(pixel_mask(mask), (height, width))


def pixel_mask(mask: Image.Image) -> Tensor:
    """[1, 1, H, W] in [0, 1]."""
    pixels = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8)
    return pixels.view(1, 1, mask.height, mask.width).float() / 255.0


class KeepOutside:
    """Wraps a denoiser: outside the mask, x follows ``init`` noised to each sigma and denoised is ``init`` itself."""

    def __init__(
        self,
        denoise: Callable[[Tensor, float], Tensor],
        mask: Tensor,
        init: Tensor,
        noised: Callable[[float], Tensor],
    ) -> None:
        self.denoise, self.mask, self.init, self.noised = denoise, mask, init, noised

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        mask = self.at(sigma)
        denoised = self.denoise(torch.lerp(self.noised(sigma), x, mask), sigma)
        return torch.lerp(self.init, denoised, mask)

    def at(self, sigma: float) -> Tensor:
        """The mask at a sigma."""
        return self.mask


class Differential(KeepOutside):
    """Soft inpainting (differential diffusion, arXiv:2306.00950): how grey the mask is says how much is repainted.

    A pixel of m is free in the last m of the walk, as time goes in training: where m is no less than
    (t - t_last) / (t_first - t_last).
    """

    def __init__(
        self,
        denoise: Callable[[Tensor, float], Tensor],
        mask: Tensor,
        init: Tensor,
        noised: Callable[[float], Tensor],
        share: Callable[[float], float],
    ) -> None:
        super().__init__(denoise, mask, init, noised)
        self.share = share

    def at(self, sigma: float) -> Tensor:
        return (self.mask >= max(min(self.share(sigma), 1.0), _LEAST)).to(self.mask)


def share_of_time(timestep: Callable[[float], float], sigmas: Sequence[float]) -> Callable[[float], float]:
    """sigma -> 1 where the walk begins, falling with the timestep to 0 where it ends."""
    first, last = timestep(sigmas[0]), timestep(sigmas[-1]) if sigmas[-1] > 0.0 else 0.0
    return lambda sigma: (timestep(sigma) - last) / max(first - last, 1e-9)
