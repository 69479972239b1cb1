"""Pixels to latents and back: rounding, tiles, and tiles by themselves when memory is short."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sigmagraft.core.errors import OutOfMemory
from sigmagraft.standalone import latents
from sigmagraft.standalone.memory import memory_errors

from .small import small_model


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_pixels_survive_the_round_trip_exactly() -> None:
    image = picture(24, 16)
    assert latents.to_tensor(image).shape == (1, 3, 16, 24)
    assert latents.to_images(latents.to_tensor(image))[0].tobytes() == image.tobytes()


@pytest.mark.parametrize(("height", "width"), [(40, 70), (16, 100), (33, 33), (7, 9)])
@pytest.mark.parametrize("scale", [8, 1 / 4])
def test_tiles_of_a_local_function_equal_the_whole(height: int, width: int, scale: float) -> None:
    """Nearest upscaling and average pooling look at no neighbour, so tiles must reproduce them everywhere."""
    if scale < 1:
        height, width = height * 4, width * 4

    def run(x: torch.Tensor) -> torch.Tensor:
        if scale > 1:
            return torch.nn.functional.interpolate(x, scale_factor=scale)
        return torch.nn.functional.avg_pool2d(x, 4)

    x = torch.randn(1, 3, height, width)
    tile, overlap = (16, 4) if scale > 1 else (64, 16)
    torch.testing.assert_close(latents.tiled(run, x, tile, overlap, scale), run(x), rtol=1e-5, atol=1e-5)


class Short:
    """Runs ``real`` on small inputs and is out of memory on larger ones."""

    def __init__(self, real, limit: int, error: Exception) -> None:  # type: ignore[no-untyped-def]
        self.real, self.limit, self.error, self.sizes = real, limit, error, []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        if max(x.shape[-2:]) > self.limit:
            raise self.error
        return self.real(x)


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=["cuda", "cpu"])
def test_decoding_falls_back_to_tiles(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model = small_model()
    monkeypatch.setattr(latents, "TILE", 8)
    monkeypatch.setattr(latents, "OVERLAP", 4)
    short = Short(model.vae.decode, 8, error)
    monkeypatch.setattr(model.vae, "decode", short)
    with torch.inference_mode():
        images = latents.decode(model, torch.randn(2, 4, 12, 16))
    assert [image.size for image in images] == [(128, 96)] * 2
    assert short.sizes[0] == (12, 16)
    assert set(short.sizes[1:7]) == {(8, 8)}


def test_other_errors_are_not_mistaken_for_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr(model.vae, "decode", Short(model.vae.decode, 0, RuntimeError("shapes do not match")))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="shapes"):
        latents.decode(model, torch.randn(1, 4, 80, 80))


@pytest.mark.parametrize("error", [*SHORTAGES, MemoryError()], ids=["cuda", "cpu", "python"])
def test_a_shortage_says_what_to_lower(error: Exception) -> None:
    told = r"out of memory on cpu while drawing.*--batch.*--size"
    with pytest.raises(OutOfMemory, match=told), memory_errors("drawing", torch.device("cpu")):
        raise error


def test_encode_inverts_the_scaling_of_decode() -> None:
    model = small_model()
    model.shift_factor = 0.3
    with torch.inference_mode():
        mean = model.vae.encode(latents.to_tensor(picture(64, 64)))[0]
        scaled = latents.encode(model, latents.to_tensor(picture(64, 64)))
    torch.testing.assert_close(scaled, (mean - 0.3) * model.scale_factor, rtol=1e-4, atol=1e-5)
