"""Cheap pictures of unfinished latents: one linear map from latent channels to red, green and blue.

A VAE with downscaling factor 8 keeps local colour nearly linear in its latent, so ``rgb = latent @ weights
+ bias`` at one pixel a latent shows composition and colour at no cost. Tables of such weights circulate for
the well-known VAEs; here the map is *fitted to the VAE at hand* on first use instead: a few synthetic
pictures (blocks of colour and smooth gradients) are encoded once and the map is the least-squares solution
against their averaged colours. One rule so serves every family, fine-tuned and 16- or 32-channel VAEs and
the bundled model, and no table can be the wrong one. The price is encoding six pictures of 16x16 latents
once in a run that asks for previews.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL import Image

Encode = Callable[[Tensor], Tensor]  # pixels [b, 3, H, W] in [-1, 1] -> latents as the sampler sees them


def colour_pictures(count: int, latents: int, factor: int) -> Tensor:
    """Synthetic pictures [count, 3, latents*factor, ...] in [-1, 1]: random colours in blocks or in smooth
    gradients.
    """
    generator = torch.Generator().manual_seed(0)
    side = latents * factor
    pictures = []
    for number in range(count):
        cells = 2 + number
        colours = torch.rand((1, 3, cells, cells), generator=generator) * 2 - 1
        smooth = number % 2 == 1
        size = (side, side)
        pictures.append(
            F.interpolate(colours, size, mode="bicubic") if smooth else F.interpolate(colours, size)
        )
    return torch.cat(pictures).clamp(-1, 1)


def fit(encode: Encode, factor: int, count: int = 6, latents: int = 16) -> Tensor:
    """Least-squares map [channels + 1, 3] (the last row is the bias) from latents to average colour in [-1,
    1].
    """
    pixels = colour_pictures(count, latents, factor)
    rows = encode(pixels).float().cpu().movedim(1, -1).flatten(0, -2)
    colours = F.avg_pool2d(pixels, factor).movedim(1, -1).flatten(0, -2)
    # A little ridge: channels which colour blocks never excite must not get wild weights.
    bordered = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
    gram = bordered.mT @ bordered
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram + ridge, bordered.mT @ colours.double()).float()


class LatentPreview:
    """Latents [b, channels, h, w] as the sampler sees them -> one small PIL picture each, `zoom` pixels a
    latent.
    """

    def __init__(self, encode: Encode, factor: int = 8, zoom: int = 4) -> None:
        self.encode = encode
        self.factor = factor
        self.zoom = zoom
        self._weights: Tensor | None = None

    def __call__(self, latents: Tensor) -> list[Image.Image]:
        from PIL import Image

        weights = self._fitted()
        rgb = latents.detach().float().cpu().movedim(1, -1) @ weights[:-1] + weights[-1]
        values = ((rgb.nan_to_num() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        pictures = [Image.fromarray(value.numpy()) for value in values]
        return [
            picture.resize((picture.width * self.zoom, picture.height * self.zoom), 2) for picture in pictures
        ]

    def _fitted(self) -> Tensor:
        if self._weights is None:
            with torch.no_grad():
                self._weights = fit(self.encode, self.factor)
        return self._weights
