"""Noise whose neighbouring pixels are related: a spectrum, levels of resolution, gradients, wavelets.

Each is linear in normal numbers, so it is normal too, and is scaled by its own known deviation: of variance 1 in
expectation at every pixel (perlin: on the average over the pixels), without measuring the image at hand.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..core.errors import OptionError
from .noise import Draw, Shape
from .noise_types import noise_type
from .spec import Option

spatial_type = partial(noise_type, spatial=True)


def power_law(draw: Draw, shape: Shape, alpha: float) -> Tensor:
    """Power falling as 1 / f^alpha with the frequency; f = 0 has the power of the lowest f above it."""
    height, width = _sides(shape)
    z = draw(shape)
    rows = torch.fft.fftfreq(height, device=z.device)[:, None]
    columns = torch.fft.fftfreq(width, device=z.device)
    gain = torch.hypot(rows, columns).clamp_(min=1 / max(height, width)).pow_(-alpha / 2)
    gain /= gain.square().mean().sqrt()
    half = gain[:, : width // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(z) * half, s=(height, width))


spatial_type(
    "fractal",
    label="Fractal",
    aliases=("power_law", "power"),
    options=(Option("alpha", 1.0, -4.0, 4.0, "power falls as 1 / f^alpha; 0 is white, above 0 coarse"),),
)(power_law)
for _name, _alpha in {"brown": 2.0, "pink": 1.0, "blue": -1.0, "violet": -2.0}.items():
    _label = f"{_name.title()} (1 / f^{_alpha:g})"
    spatial_type(_name, label=_label, doc=f"`fractal` with alpha {_alpha:g}.")(
        partial(power_law, alpha=_alpha)
    )

DISCOUNT = Option("discount", 0.8, 0.0, 1.0, "weight of each level beside the one before")
LEVELS = Option("levels", 4, 1, 8, "how many after the latent's own resolution")
FINER = Option("levels", 2, 1, 6, "how many after the latent's own resolution; each costs more")


def _resolutions(draw: Draw, shape: Shape, ratio: float, discount: float, levels: int) -> Tensor:
    """sum_i discount^i noise_i / norm, noise_i drawn at ratio^i times the resolution and interpolated linearly."""
    height, width = _sides(shape)
    total, power = draw(shape), 1.0
    for level in range(1, levels + 1):
        rows, columns = (max(round(side * ratio**level), 1) for side in (height, width))
        z = draw((*shape[:-2], rows, columns))
        vertical, across = _resampling(rows, height).to(z), _resampling(columns, width).to(z)
        total.add_(vertical @ z @ across.T, alpha=discount**level)
        power += discount ** (2 * level)
    return total.mul_(power**-0.5)


@lru_cache(64)
def _resampling(size: int, wanted: int) -> Tensor:
    """Linear interpolation as a matrix [wanted, size], with rows of length 1: what is white keeps its variance."""
    matrix = interpolate(torch.eye(size)[None], size=wanted, mode="linear", align_corners=False)[0].T
    return matrix / matrix.norm(dim=1, keepdim=True)


@spatial_type("pyramid", label="Pyramid", aliases=("multires", "pyramid_lowres"), options=(DISCOUNT, LEVELS))
def pyramid(draw: Draw, shape: Shape, discount: float, levels: int) -> Tensor:
    """White noise and, level by level, noise of half the resolution drawn larger: large blotches too."""
    return _resolutions(draw, shape, 0.5, discount, levels)


@spatial_type("hires_pyramid", label="Hires pyramid", aliases=("pyramid_hires",), options=(DISCOUNT, FINER))
def hires_pyramid(draw: Draw, shape: Shape, discount: float, levels: int) -> Tensor:
    """White noise and, level by level, noise of 1.5 times the resolution drawn smaller: neighbours are 2 % alike."""
    return _resolutions(draw, shape, 1.5, discount, levels)


@spatial_type(
    "perlin",
    label="Perlin",
    paper="Perlin 2002",
    options=(
        Option("cell", 8.0, 1.0, 64.0, "pixels between the gradients of the coarsest octave"),
        Option("persistence", 0.8, 0.0, 2.0, "weight of each octave beside the coarser one"),
    ),
)
def perlin(draw: Draw, shape: Shape, cell: float, persistence: float) -> Tensor:
    """Gradient noise, sum of octaves of half the cell down to one pixel: sum over corners of fade * gradient . way.

    The gradients are normal, and fade and way are products over the two axes: matrices from both sides.
    """
    octaves = int(math.log2(cell)) + 1
    total, power = _gradient_noise(draw, shape, cell), 1.0
    for octave in range(1, octaves):
        total.add_(_gradient_noise(draw, shape, cell / 2**octave), alpha=persistence**octave)
        power += persistence ** (2 * octave)
    return total.mul_(power**-0.5)


def _gradient_noise(draw: Draw, shape: Shape, cell: float) -> Tensor:
    (fade_y, way_y), (fade_x, way_x) = (_lattice(side, cell) for side in _sides(shape))
    gradients = draw((2, *shape[:-2], fade_y.shape[1], fade_x.shape[1]))
    fade_y, way_y, fade_x, way_x = (matrix.to(gradients) for matrix in (fade_y, way_y, fade_x, way_x))
    power = _power(way_y) * _power(fade_x) + _power(fade_y) * _power(way_x)
    return (way_y @ gradients[0] @ fade_x.T + fade_y @ gradients[1] @ way_x.T) * power.rsqrt()


@lru_cache(64)
def _lattice(side: int, cell: float) -> tuple[Tensor, Tensor]:
    """(fade, fade * way) of every pixel [side] to every lattice line."""
    at = (torch.arange(side, dtype=torch.float32) + 0.5) / cell
    way = at[:, None] - torch.arange(int(at[-1]) + 2)
    t = (1 - way.abs()).clamp_(min=0.0)
    fade = t**3 * (t * (6 * t - 15) + 10)
    return fade, fade * way


def _power(matrix: Tensor) -> Tensor:
    return matrix.square().sum(dim=1).mean()


@spatial_type(
    "wavelet",
    label="Wavelet",
    paper="Cook and DeRose 2005",
    options=(
        Option("gain", 0.5, 0.0, 4.0, "of each coarser band; 1 is white, 0 the finest band alone"),
        Option("levels", 4, 1, 8, "bands beside the coarse rest"),
    ),
)
def wavelet(draw: Draw, shape: Shape, gain: float, levels: int) -> Tensor:
    """White noise split by the Haar wavelet into bands, band i weighted gain^i."""
    height, width = _sides(shape)
    block = 2**levels
    rows, columns = (-(-side // block) * block for side in (height, width))
    sizes = [draw((*shape[:-2], rows, columns))]
    for _ in range(levels):
        sizes.append(_halved(sizes[-1]))
    total, power = sizes.pop() * gain**levels, gain ** (2 * levels) / 4**levels
    for level, finer in reversed(list(enumerate(sizes))):
        total = _doubled(total).add_(finer - _doubled(_halved(finer)), alpha=gain**level)
        power += gain ** (2 * level) * 3 / 4 ** (level + 1)
    return total[..., :height, :width].mul(power**-0.5)


def _halved(x: Tensor) -> Tensor:
    return x.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2)).mean(dim=(-3, -1))


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)


def _sides(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2:
        raise OptionError(
            f"this noise needs pictures, not shape {tuple(shape)}", expected="(..., height, width)"
        )
    return shape[-2], shape[-1]
