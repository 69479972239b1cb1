"""Dynamic thresholding: strong guidance with the range of values that weak guidance has."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.option import Option
from .spec import Evaluation, Guidance, Setting, guidance


@guidance(
    "dynamic_threshold",
    label="Dynamic thresholding",
    paper="2205.11487",
    aliases=("dynthres",),
    options=(
        Option("mimic", 7.0, 0.0, 100.0, "the guidance weight whose range of values is kept to"),
        Option("percentile", 1.0, 0.5, 1.0, "of the values that count as inside, the rest is cut off"),
        Option("share", 1.0, 0.0, 1.0, "how much of the result is taken"),
        Option(
            "measure", "range", choices=("range", "deviation"), help="what is brought to the weaker one's"
        ),
        Option("over", "channel", choices=("channel", "image"), help="what shares one range"),
    ),
)
class DynamicThreshold(Guidance):
    """The guided denoised latent g, less its mean, cut off at t = max(q, r) and scaled by r / t: q is the
    `percentile` of |g|, r the largest |value| at the weaker weight `mimic` (after arXiv:2205.11487, section 2.3, which
    thresholds pixels at 1).
    """

    def __init__(
        self, setting: Setting, mimic: float, percentile: float, share: float, measure: str, over: str
    ) -> None:
        super().__init__(setting)
        self.mimic, self.percentile, self.share = mimic, percentile, share
        self.by_range, self.first = measure == "range", 2 if over == "channel" else 1

    def finish(self, at: Evaluation, guided: Tensor) -> Tensor:
        if at.uncond is None:
            return guided
        weak = at.x0(torch.lerp(at.uncond, at.cond, self.mimic)).flatten(self.first)
        strong = at.x0(guided)
        return at.answer(
            torch.lerp(strong, self._kept(strong.flatten(self.first), weak).view_as(strong), self.share)
        )

    def _kept(self, strong: Tensor, weak: Tensor) -> Tensor:
        """`strong` with the range of `weak`, over the last axis."""
        mean = strong.mean(-1, keepdim=True)
        strong, weak = strong - mean, weak - weak.mean(-1, keepdim=True)
        if not self.by_range:
            return strong * (weak.std(-1, keepdim=True) / strong.std(-1, keepdim=True)) + mean
        wanted = weak.abs().amax(-1, keepdim=True)
        found = strong.abs().float().quantile(self.percentile, dim=-1, keepdim=True).to(strong)
        limit = torch.maximum(wanted, found)
        return strong.clamp(-limit, limit) * (wanted / limit.clamp(min=1e-12)) + mean
