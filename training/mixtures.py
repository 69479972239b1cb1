"""Random Gaussian mixtures, with and without guidance: what the schedule of `samplers/fitted.py` is fitted on.

They differ in everything that is not known of a model's data: spectrum, scale, and the tree of choices by which the
components differ (coarse ones far apart, fine ones near), and most are walked under classifier-free guidance, a prompt
being one branch of the tree.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

SIZES = (32, 64, 128, 256)  # numbers in a sample; a component's covariance is diagonal
GUIDANCES = (1.0, 1.0, 2.0, 3.0, 5.0, 7.5)


class Problem:
    """One mixture, its denoiser in variance-exploding coordinates and the true end points of noise."""

    def __init__(self, seed: int, sigma_max: float, images: int = 6) -> None:
        draw = np.random.default_rng((3, seed))
        size, depth = int(draw.choice(SIZES)), int(draw.integers(1, 5))
        branches = int(draw.integers(4, 65)) if depth == 1 else int(draw.integers(2, 5))
        scale, falling = draw.uniform(0.6, 1.4), (1 + np.arange(size)) ** -draw.uniform(0.0, 2.0)
        spread = np.sqrt(falling * scale**2 / falling.mean())
        shares = draw.dirichlet(
            np.full(depth + 1, 2.0)
        )  # of the variance, by level of the tree; the last is within
        means, first = np.zeros((1, size)), np.zeros(1, dtype=int)
        for level in range(depth):
            moved = draw.standard_normal((len(means) * branches, size)) * spread * math.sqrt(shares[level])
            means = np.repeat(means, branches, axis=0) + moved
            first = np.arange(branches) if level == 0 else np.repeat(first, branches)
        width = draw.uniform(0.3, 1.7, (len(means), 1))
        self.means = torch.from_numpy(means)
        self.variances = torch.from_numpy(shares[-1] * width * spread**2)
        self.logits = torch.from_numpy(draw.standard_normal(len(means)) * 0.5)
        self.guidance = float(draw.choice(GUIDANCES))
        self.prompt = self.logits.masked_fill(torch.from_numpy(first != draw.integers(branches)), -math.inf)
        self.noise = torch.from_numpy(draw.standard_normal((images, size)))
        self.start = self.noise * math.hypot(1, sigma_max)
        self.end = self._end(sigma_max)

    def denoised(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x], guided; differentiable in both."""
        variance = self.variances + sigma**2
        inverse = 1 / variance
        distance = (
            x.square() @ inverse.T - 2 * x @ (self.means * inverse).T + (self.means.square() * inverse).sum(1)
        )
        likelihood = -0.5 * (distance + variance.log().sum(1))
        shrink = self.variances * inverse
        kept = self.means * (1 - shrink)

        def mean(logits: Tensor) -> Tensor:
            share = (logits + likelihood).softmax(-1)
            return share @ kept + x * (share @ shrink)

        cond = mean(self.prompt)
        return cond if self.guidance == 1.0 else torch.lerp(mean(self.logits), cond, self.guidance)

    def _end(self, sigma_max: float) -> Tensor:
        """dx / dlog sigma = x - denoised, to a relative 1e-6 at sigma 1e-3."""

        def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(flat).view_as(self.start)
            return (x - self.denoised(x, math.exp(log_sigma))).flatten().numpy()

        span = (math.log(sigma_max), math.log(1e-3))
        solved = solve_ivp(slope, span, self.start.flatten().numpy(), method="DOP853", rtol=1e-6, atol=1e-7)
        return self.denoised(torch.from_numpy(solved.y[:, -1]).view_as(self.start), 1e-3)

    def error(self, found: Tensor) -> Tensor:
        """Relative RMS distance of every image to its end point, [images]."""
        return (found - self.end).square().mean(1).sqrt() / self.end.square().mean(1).sqrt()
