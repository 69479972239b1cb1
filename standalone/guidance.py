"""Guidance: denoisers that wrap a denoiser, so every sampler takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..samplers.guidance_weight import Weight
from .conditioning import Conditioning
from .denoiser import Denoiser


class Conditional:
    """The denoiser on the prompt alone: one evaluation a call."""

    def __init__(self, denoiser: Denoiser, cond: Conditioning) -> None:
        self.denoiser = denoiser
        self.cond = cond

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return self.denoiser(x, sigma, self.cond)


class ClassifierFree:
    """uncond + w (cond - uncond), w = weight(sigma) (arXiv:2207.12598), both halves in one evaluation.

    Where w is 1 the prompt alone is evaluated. ``rescale`` in [0, 1] moves the result's standard deviation over an
    image towards cond's (arXiv:2305.08891, section 3.4), in the space of the network's output as the paper does.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        cond: Conditioning,
        uncond: Conditioning,
        weight: Weight,
        rescale: float = 0.0,
    ) -> None:
        self.denoiser = denoiser
        self.weight = weight
        self.rescale = rescale
        self.cond = cond
        self.both = join(cond, uncond)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        weight = self.weight(sigma)
        if weight == 1.0:
            return self.denoiser(x, sigma, self.cond)
        cond, uncond = self.denoiser.output(torch.cat([x, x]), sigma, self.both).chunk(2)
        output = torch.lerp(uncond, cond, weight)
        if self.rescale:
            output = torch.lerp(output, output * (_std(cond) / _std(output)), self.rescale)
        return self.denoiser.denoised(output, x, sigma)


def guided(
    denoiser: Denoiser,
    cond: Conditioning,
    uncond: Conditioning | None,
    scale: float | Weight,
    rescale: float = 0.0,
) -> Conditional | ClassifierFree:
    """CFG at this scale, a number or a weight for each sigma.

    At 0 (no guidance) and 1 (cond alone), or without uncond, a single evaluation of cond.
    """
    if uncond is None or scale in (0.0, 1.0):
        return Conditional(denoiser, cond)
    weight = scale if callable(scale) else lambda sigma: scale
    return ClassifierFree(denoiser, cond, uncond, weight, rescale)


def join(first: Conditioning, second: Conditioning) -> Conditioning:
    """Both conditionings in one batch, first's images before second's, which are the negative prompt's."""
    vectors = [c.vector for c in (first, second) if c.vector is not None]
    context = torch.cat([first.context, second.context])
    return Conditioning(context, torch.cat(vectors) if vectors else None, ("cond", "uncond"))


def _std(x: Tensor) -> Tensor:
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)
