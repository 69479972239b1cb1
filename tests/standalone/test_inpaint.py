"""Masks: only-masked regions, blur, and the latent mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.standalone import inpaint


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@pytest.mark.parametrize("aspect", [(64, 64), (128, 64), (64, 192)])
@pytest.mark.parametrize("box", [(10, 10, 20, 30), (0, 0, 5, 5), (150, 80, 160, 100), (0, 0, 160, 100)])
def test_the_region_holds_the_mask_with_its_padding(
    aspect: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = Image.new("RGB", (160, 100))
    region = inpaint.region(image, mask_of(image.size, box), aspect, blur=0.0, padding=4)
    left, top, right, bottom = region.box
    assert 0 <= left <= max(box[0] - 4, 0)
    assert 0 <= top <= max(box[1] - 4, 0)
    assert min(box[2] + 4, 160) <= right <= 160
    assert min(box[3] + 4, 100) <= bottom <= 100
    assert region.image.size == region.mask.size == aspect


def test_pasting_back_what_was_cut_changes_nothing_outside_the_mask() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    region = inpaint.region(image, mask_of((96, 96), (30, 30, 50, 50)), (64, 64), blur=0.0, padding=6)
    black = region.paste(Image.new("RGB", (64, 64)))
    changed = (np.asarray(black) != np.asarray(image)).any(axis=2)
    assert changed[30:50, 30:50].mean() > 0.99
    changed[30:50, 30:50] = False
    assert not changed.any()


def test_blur_grows_the_mask_only() -> None:
    mask = mask_of((64, 64), (20, 20, 44, 44))
    before, after = np.asarray(mask, int), np.asarray(inpaint.blurred(mask, 4), int)
    assert (after >= before).all()
    assert after[20:44, 20:44].min() == 255
    assert 0 < after[32, 18] < 255
    assert after[0, 0] == 0


def test_an_empty_mask_is_the_whole_picture() -> None:
    image = Image.new("RGB", (64, 48))
    assert inpaint.region(image, Image.new("L", (64, 48)), (64, 48), 0.0, padding=4).box == (0, 0, 64, 48)


def test_a_latent_pixel_is_repainted_where_any_of_its_pixels_is() -> None:
    mask = mask_of((64, 64), (7, 8, 9, 16))
    latent = inpaint.latent_mask(mask, 8, 8)
    expected = torch.zeros(1, 1, 8, 8)
    expected[0, 0, 1, :2] = 1.0
    assert torch.equal(latent, expected)


def test_keep_outside_holds_x_and_denoised_to_the_image() -> None:
    init, noise = torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    seen: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    keep = inpaint.KeepOutside(denoise, mask, init, lambda sigma: init + sigma * noise)
    out = keep(torch.full((1, 1, 2, 2), -9.0), 2.0)
    assert seen[0].tolist() == [[[[-9.0, 5.0], [-9.0, 5.0]]]]
    assert out.tolist() == [[[[0.0, 3.0], [0.0, 3.0]]]]
