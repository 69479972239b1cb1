"""Self-attention guidance: away from what the network answers where what it attends to is blurred."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import OptionError
from ..core.option import Option
from ..core.patch import OutputPatch, StepInfo
from .spec import Evaluation, Guidance, Setting, guidance

_RADIUS = 4  # latent pixels


@guidance(
    "sag",
    label="Self-attention guidance",
    paper="2210.00939",
    extra=1,
    options=(
        Option("scale", 0.75, -100.0, 100.0, "how strongly"),
        Option("blur", 1.0, 0.1, 100.0, "standard deviation of the blur, latent pixels"),
        Option("threshold", 1.0, 0.0, 1000.0, "what counts as attended to: the sum of attention it receives"),
    ),
)
class SAG(Guidance):
    """+ s (n(x) - n(x')), n the direction of the noise (x - x0) / sigma: x' is x with x0 blurred where the middle
    block attends to more than `threshold` (equation 16). Of the negative prompt's answer, else of the prompt's.
    """

    def __init__(self, setting: Setting, scale: float, blur: float = 1.0, threshold: float = 1.0) -> None:
        super().__init__(setting)
        config = setting.known("sag")
        if not config.transformer_depth_middle:
            raise OptionError("guidance sag needs attention in the middle block", todo="leave it out")
        self.scale, self.blur, self.threshold = scale, blur, threshold
        self.heads, self.halvings = config.heads(config.widths[-1]), len(config.channel_mult) - 1
        self._attended: dict[str, Tensor] = {}

    def watching(self) -> list[OutputPatch]:
        return [OutputPatch(("middle", 0), 0, "attn1", self._seen)]

    def _seen(self, out: Tensor, q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> Tensor:
        """Keeps how much attention each token of a branch receives, [b, n]."""
        branches = info.branches or ("cond",)
        sides = (t.chunk(len(branches)) for t in (q, k))
        for branch, *side in zip(branches, *sides, strict=True):
            queries, keys = (t.float().unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in side)
            maps = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(-1)
            self._attended[branch] = maps.mean(1).sum(1)[:, : queries.shape[2]]
        return out

    def term(self, at: Evaluation) -> Tensor | None:
        side = "cond" if at.uncond is None else "uncond"
        if not self.scale or side not in self._attended:
            return None
        base = at.cond if at.uncond is None else at.uncond
        x0 = at.x0(base)
        there = at.x + (self._blurred(x0, self._attended[side]) - x0) * at.alpha
        x0_there = at.denoised(at.again(there, negative=at.uncond is not None), there)
        return at.answer(x0 + (x0 - at.x - x0_there + there) * self.scale) - base

    def _blurred(self, x0: Tensor, attended: Tensor) -> Tensor:
        """x0, blurred where the middle block attends to more than the threshold."""
        height, width = x0.shape[-2:]
        small = [math.ceil(side / 2**self.halvings) for side in (height, width)]
        mask = (attended > self.threshold).to(x0).unflatten(1, small)[:, None]
        return torch.lerp(x0, blurred(x0, self.blur), F.interpolate(mask, size=(height, width)))


def blurred(x: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur of 9 by 9 pixels, mirrored at the edges."""
    for axis in (-1, -2):
        radius = min(_RADIUS, x.shape[axis] - 1)
        places = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (places / deviation) ** 2)
        kernel = (kernel / kernel.sum()).view(1, 1, *((1, -1) if axis == -1 else (-1, 1)))
        padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        rows = F.pad(x, padding, mode="reflect").flatten(0, 1)[:, None]
        x = F.conv2d(rows, kernel).view_as(x)
    return x
