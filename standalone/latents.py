"""Between pixels and latents: scaling, one image at a time, tiles where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .memory import is_out_of_memory, memory_format
from .model import Model

TILE = 64  # latent pixels on a side; overlapping by OVERLAP and blended linearly
OVERLAP = 16


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> [1, 3, H, W] in [-1, 1], fp32."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1.0


def to_images(pixels: Tensor) -> list[Image.Image]:
    """[b, 3, H, W] in [-1, 1] -> RGB images, rounded to nearest."""
    array = ((pixels.float() + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
    return [Image.fromarray(one) for one in array.permute(0, 2, 3, 1).cpu().numpy()]


def encode(model: Model, pixels: Tensor) -> Tensor:
    """[b, 3, H, W] in [-1, 1] -> scaled latents [b, z, h, w]: the posterior's mean, so no seed is needed."""
    factor = model.vae.factor

    def one(x: Tensor) -> Tensor:
        return model.vae.encode(x)[0]

    means = [
        _in_tiles_if_short(one, x, TILE * factor, OVERLAP * factor, 1 / factor) for x in _each(model, pixels)
    ]
    return (torch.cat(means).float() - model.shift_factor) * model.scale_factor


def decode(model: Model, latents: Tensor, progress: Callable[[int], None] | None = None) -> list[Image.Image]:
    """Scaled latents [b, z, h, w] -> images, decoded one by one so that a batch needs no more memory than one."""
    images: list[Image.Image] = []
    for pixels in _decoded(model, latents):
        images += to_images(pixels)
        if progress:
            progress(len(images))
    return images


def decode_pixels(model: Model, latents: Tensor) -> Tensor:
    """Scaled latents [b, z, h, w] -> [b, 3, H, W], nominally in [-1, 1]."""
    return torch.cat(list(_decoded(model, latents)))


def _decoded(model: Model, latents: Tensor) -> Iterator[Tensor]:
    """The pixels of each image in turn, [1, 3, H, W]."""
    for z in _each(model, latents / model.scale_factor + model.shift_factor):
        yield _in_tiles_if_short(model.vae.decode, z, TILE, OVERLAP, model.vae.factor)


def _each(model: Model, batch: Tensor) -> list[Tensor]:
    weight = next(model.vae.parameters())
    batch = batch.to(weight.device, weight.dtype)
    layout = memory_format(model.vae)
    return [x.contiguous(memory_format=layout) for x in batch.split(1)]


def _in_tiles_if_short(
    run: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int, scale: float
) -> Tensor:
    """run(x), or by tiles when memory for the whole does not suffice."""
    try:
        return run(x)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or max(x.shape[-2:]) <= tile:
            raise
    if x.device.type == "cuda":
        torch.cuda.empty_cache()
    return tiled(run, x, tile, overlap, scale)


def tiled(run: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int, scale: float) -> Tensor:
    """run over overlapping tiles of x [1, c, h, w], blended by a linear ramp over the overlap; output scale * size."""
    height, width = x.shape[-2:]
    tiles = [
        (top, left, run(x[..., top : top + tile, left : left + tile]).float())
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    ]
    total = tiles[0][2].new_zeros(1, tiles[0][2].shape[1], round(height * scale), round(width * scale))
    weight = torch.zeros_like(total[:, :1])
    for top, left, out in tiles:
        mask = _ramp(out.shape[-2], overlap * scale)[:, None] * _ramp(out.shape[-1], overlap * scale)[None]
        y, z = round(top * scale), round(left * scale)
        place = (..., slice(y, y + out.shape[-2]), slice(z, z + out.shape[-1]))
        total[place] += out * mask.to(out.device)
        weight[place] += mask.to(out.device)
    return (total / weight).to(x.dtype)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Tile offsets that cover ``length``; the last tile ends exactly there."""
    last = max(length - tile, 0)
    return [*range(0, last, tile - overlap), last]


def _ramp(length: int, overlap: float) -> Tensor:
    """1 inside, falling linearly towards both ends over ``overlap``; never 0, so weights divide."""
    position = torch.arange(length, dtype=torch.float32) + 0.5
    return (torch.minimum(position, length - position) / max(overlap, 1.0)).clamp(max=1.0)
