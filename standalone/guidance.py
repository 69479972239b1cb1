"""Guidance: denoisers that wrap a denoiser, so every sampler takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.patch import EvaluationPatch
from ..guidance.apply import Kin, acting, combine, open_kin, patches_of
from ..guidance.spec import Evaluation, Guidance
from ..guidance.text import read_guidance
from ..loras.curve import place_of
from ..samplers.guidance_weight import Weight
from .conditioning import Conditioning
from .denoiser import Denoiser
from .prompt_course import Moment, Told, always


class Conditional:
    """The denoiser on the prompt alone: one evaluation a call."""

    def __init__(self, denoiser: Denoiser, cond: Conditioning) -> None:
        self.denoiser = denoiser
        self.cond = cond

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return self.denoiser(x, sigma, self.cond)


class ClassifierFree:
    """uncond + w (cond - uncond), w = weight(sigma) (arXiv:2207.12598), both halves in one evaluation.

    Where w is 1 the prompt alone is evaluated. ``kin`` change it (`guidance/`), in the space of the network's output;
    ``sigmas`` of the walk say where in it they act.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        told: Told,
        weight: Weight,
        kin: Sequence[Kin] = (),
        sigmas: Sequence[float] = (1.0, 0.0),
    ) -> None:
        self.denoiser, self.told, self.weight = denoiser, told, weight
        self.kin, self.sigmas = kin, sigmas

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        moment, weight = self.told(sigma), self.weight(sigma)
        place = place_of(sigma, self.sigmas)
        guidances = acting(self.kin, place.step, place.steps)
        one = _One(self.denoiser, x, sigma, moment, guidances)
        cond, uncond = one.both(alone=weight == 1.0)
        at = Evaluation(
            x,
            sigma,
            cond,
            uncond,
            weight,
            place.step,
            place.steps,
            self.denoiser.levels.alpha(sigma),
            one.denoised,
            one.output,
            one.again,
        )
        return one.denoised(combine(guidances, at), x)


class _One:
    """One evaluation for guidance, and what it may ask for besides."""

    def __init__(
        self, denoiser: Denoiser, x: Tensor, sigma: float, moment: Moment, guidances: Sequence[Guidance]
    ) -> None:
        self.denoiser, self.x, self.sigma, self.moment = denoiser, x, sigma, moment
        self.guidances = guidances

    def both(self, alone: bool) -> tuple[Tensor, Tensor | None]:
        """The network's outputs for cond and, unless cond alone is enough, uncond."""
        moment, patches = self.moment, patches_of(self.guidances, first=True)
        if moment.uncond is None or (alone and moment.weights is None):
            return self.denoiser.output(self.x, self.sigma, moment.cond, patches), None
        x = torch.cat([self.x] * (moment.parts + 1))
        cond, uncond = self.denoiser.output(x, self.sigma, moment.both, patches).tensor_split([-len(self.x)])
        return moment.composed(cond, uncond), uncond

    def again(self, x: Tensor, *, negative: bool = False, patches: Sequence[EvaluationPatch] = ()) -> Tensor:
        """The network's output at another x, or with more patches."""
        moment = self.moment
        patches = [*patches_of(self.guidances, first=False), *patches]
        if negative and moment.uncond is not None:
            uncond = replace(
                moment.uncond, branches=("uncond",)
            )  # so adapters treat it as they do in a batch
            return self.denoiser.output(x, self.sigma, uncond, patches)
        if moment.weights is None:
            return self.denoiser.output(x, self.sigma, moment.cond, patches)
        x = torch.cat([x] * (moment.parts + 1))
        outputs = self.denoiser.output(x, self.sigma, moment.both, patches)
        return moment.composed(*outputs.tensor_split([-len(self.x)]))

    def denoised(self, output: Tensor, x: Tensor) -> Tensor:
        return self.denoiser.denoised(output, x, self.sigma)

    def output(self, denoised: Tensor, x: Tensor) -> Tensor:
        return self.denoiser.output_of(denoised, x, self.sigma)


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
    kin = open_kin([rescaling(rescale)], denoiser.setting) if rescale else []
    return guiding(denoiser, always(cond, uncond), scale, kin)


def guiding(
    denoiser: Denoiser,
    told: Told,
    scale: float | Weight,
    kin: Sequence[Kin] = (),
    sigmas: Sequence[float] = (1.0, 0.0),
) -> ClassifierFree:
    """The same for what changes on its way, with kin."""
    weight = scale if callable(scale) else lambda sigma: scale
    return ClassifierFree(denoiser, told, weight, kin, sigmas)


def rescaling(share: float):  # type: ignore[no-untyped-def]
    """The guidance that takes this share of the contrast back."""
    return read_guidance(f"rescale:share={share!r}")
