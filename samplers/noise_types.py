"""The kinds of step noise a stochastic sampler can be given: a registry, what each is made of, and the plain ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.registry import Registry
from .levels import NoiseLevels
from .noise import Draw, ImageNoise, Shape
from .spec import Noise, Option, SamplerSpec, resolve

Values = Mapping[str, Any]


@dataclass(frozen=True)
class NoiseType:
    """`open(images, sigmas, levels, options)` gives the noise of a walk along `sigmas`.

    Every type has mean 0 and variance 1 in expectation, so that a sampler adds the noise it means to.

    Attributes:
        spatial: whether the noise of a place depends on its neighbours: for latents [channels, height, width] only.
    """

    name: str
    open: Callable[[ImageNoise, Sequence[float], NoiseLevels, Values], Noise]
    label: str
    aliases: tuple[str, ...] = ()
    paper: str = ""
    options: tuple[Option, ...] = ()
    spatial: bool = False
    doc: str = ""


NOISE_TYPES: Registry[NoiseType] = Registry("noise type")
Shaping = Callable[..., Tensor]


class ShapedNoise:
    """Noise that `shaping(draw, shape, **options)` makes of each image's own generator."""

    def __init__(self, name: str, images: ImageNoise, shaping: Shaping, options: Values) -> None:
        self.name, self.images, self.options = name, images, dict(options)
        self.shaping = partial(shaping, **options)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.images.each(lambda draw: self.shaping(draw, self.images.shape))

    @property
    def description(self) -> dict[str, Any]:
        """As ImageNoise's."""
        return self.images.description | {"type": self.name, "options": self.options}


def noise_type(name: str, **declared: Any) -> Callable[[Shaping], Shaping]:
    """Register a function (draw, shape, **options) -> one image's noise; `declared` are NoiseType's fields.

    `draw(shape)` gives unit normal numbers of any shape from the generator of the image.
    """

    def register(shaping: Shaping) -> Shaping:
        def open(images: ImageNoise, sigmas: Sequence[float], levels: NoiseLevels, options: Values) -> Noise:
            return ShapedNoise(name, images, shaping, options)

        NOISE_TYPES.add(NoiseType(name=name, open=open, **_declared(shaping, declared)))
        return shaping

    return register


def _declared(shaping: Shaping, fields: dict[str, Any]) -> dict[str, Any]:
    return {"doc": shaping.__doc__ or "", **fields}


def parse_noise(text: str) -> tuple[NoiseType, dict[str, Any]]:
    """`name` or `name:option=value,option=value`. Raises OptionError for what is not declared."""
    name, _, rest = text.partition(":")
    spec = NOISE_TYPES[name]
    pairs = [part.partition("=") for part in rest.split(",") if part.strip()]
    given = {key.strip(): value.strip() for key, _, value in pairs}
    return spec, resolve(spec.options, given, f"noise type {spec.name}")


def step_noise(
    spec: SamplerSpec,
    images: ImageNoise,
    sigmas: Sequence[float],
    levels: NoiseLevels,
    noise_type: str | None = None,
) -> Noise:
    """The noise of a walk along `sigmas`, one generator or path per seed of `images`.

    Args:
        noise_type: a name of NOISE_TYPES with its options ("fractal:alpha=1.5"); None is what the sampler asks
            for: "brownian" or, as `images` draws it, "gaussian".
    """
    kind, options = parse_noise(noise_type or ("brownian" if spec.brownian else "gaussian"))
    return kind.open(images, sigmas, levels, options)


def adds_noise(spec: SamplerSpec, options: Mapping[str, Any] | None) -> bool:
    """Whether the method draws noise under these options."""
    values = resolve(spec.options, options, f"sampler {spec.name}")
    if spec.noise_option is None:
        return spec.stochastic
    return values[spec.noise_option] != 0


@noise_type("gaussian", label="Gaussian", aliases=("white", "normal"))
def gaussian(draw: Draw, shape: Shape) -> Tensor:
    """N(0, 1), independent: what the samplers are derived for."""
    return draw(shape)


@noise_type("uniform", label="Uniform")
def uniform(draw: Draw, shape: Shape) -> Tensor:
    """Even from -sqrt(3) to sqrt(3): sqrt(12) (Phi(z) - 1/2), z normal."""
    return (torch.special.ndtr(draw(shape)) - 0.5) * math.sqrt(12)


@noise_type("laplacian", label="Laplacian", aliases=("laplace",))
def laplacian(draw: Draw, shape: Shape) -> Tensor:
    """Density exp(-sqrt(2) |x|) / sqrt(2), by the inverse of its distribution function at Phi(z), z normal."""
    z = draw(shape)
    tail = torch.special.log_ndtr(-z.abs()) + math.log(2)  # log of the chance to lie farther out
    return torch.copysign(tail / math.sqrt(2), z)


@noise_type(
    "student_t",
    label="Student t",
    aliases=("student",),
    paper="Bailey 1994",
    options=(Option("nu", 5.0, 2.1, 1000.0, "degrees of freedom; fewer give longer tails"),),
)
def student_t(draw: Draw, shape: Shape, nu: float) -> Tensor:
    """sqrt(nu (u^(-2 / nu) - 1)) cos(2 pi v), u and v even from 0 to 1, over its deviation sqrt(nu / (nu - 2))."""
    log_u, v = torch.special.log_ndtr(draw(shape)), torch.special.ndtr(draw(shape))
    return (torch.expm1(log_u * (-2 / nu)) * (nu - 2)).sqrt_() * torch.cos(v * (2 * math.pi))
