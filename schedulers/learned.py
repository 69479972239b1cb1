"""Networks that predict a variance beside the noise: twice the channels, the second half of them for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..samplers.ddpm import large
from ..samplers.levels import NoiseLevels

KINDS = ("learned", "learned_range")


def split(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """(prediction, variance); None where the output has the sample's own channels."""
    if output.shape[1] != 2 * channels:
        return output, None
    return output[:, :channels], output[:, channels:]


def factor(
    kind: str, variance: Tensor, levels: NoiseLevels, sigma: float, sigma_next: float
) -> Tensor | None:
    """What multiplies noise of the posterior's deviation to have the predicted one; None on a step without noise.

    learned: variance is the variance itself. learned_range: its logarithm, as a place between that of the posterior
    (-1) and of the forward step (1) (arXiv:2102.09672 eq. 15).
    """
    small = levels.posterior(sigma, sigma_next, 1.0)[2]
    if small == 0.0:
        return None
    variance = variance.float()
    if kind == "learned":
        return variance.sqrt() / small
    widest = math.log(large(levels, sigma, sigma_next) / small)
    return torch.exp((variance + 1) * (widest / 2))
