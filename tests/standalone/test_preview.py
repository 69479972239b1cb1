"""The fitted linear preview against a VAE whose latents are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sigmagraft.standalone.preview import LatentPreview, colour_pictures, fit


def linear_vae(channels: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """latent = matrix @ colour + shift, a random one."""
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(channels, 3, generator=generator), torch.randn(channels, generator=generator)


@pytest.mark.parametrize("channels", [4, 16, 32])
@pytest.mark.parametrize("factor", [8, 16])
def test_recovers_the_colours_of_a_linear_vae(channels: int, factor: int) -> None:
    matrix, shift = linear_vae(channels)

    def encode(pixels: Tensor) -> Tensor:
        mean = F.avg_pool2d(pixels, factor)
        return torch.einsum("kc,bchw->bkhw", matrix, mean) + shift[:, None, None]

    generator = torch.Generator().manual_seed(5)
    colours = torch.rand((2, 3, 6, 10), generator=generator) * 1.8 - 0.9
    pixels = F.interpolate(colours, scale_factor=factor)
    pictures = LatentPreview(encode, factor, zoom=1)(encode(pixels))
    assert [picture.size for picture in pictures] == [(10, 6), (10, 6)]
    for picture, colour in zip(pictures, colours, strict=True):
        expected = (colour.movedim(0, -1).numpy() + 1) * 127.5
        assert np.abs(np.asarray(picture) - expected).max() < 6


def test_fits_once() -> None:
    calls = []

    def encode(pixels: Tensor) -> Tensor:
        calls.append(pixels.shape)
        return F.avg_pool2d(pixels, 8).repeat(1, 2, 1, 1)[:, :4]

    preview = LatentPreview(encode)
    for _ in range(3):
        assert preview(torch.zeros(1, 4, 4, 4))[0].size == (16, 16)
    assert calls == [(6, 3, 128, 128)]


def test_broken_latents_still_make_a_picture() -> None:
    preview = LatentPreview(lambda pixels: F.avg_pool2d(pixels, 8))
    assert preview(torch.full((1, 3, 2, 2), float("nan")))[0].size == (8, 8)


def test_the_fitting_pictures_are_always_the_same_and_span_the_colours() -> None:
    pixels = colour_pictures(6, 16, 8)
    assert torch.equal(pixels, colour_pictures(6, 16, 8))
    assert pixels.abs().max() <= 1
    assert torch.linalg.matrix_rank(fit(lambda x: F.avg_pool2d(x, 8), 8)[:3]) == 3
