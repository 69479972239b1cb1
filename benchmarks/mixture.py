"""Data whose denoiser is known: a mixture of Gaussians shaped like latents, so a solver's true end point is known.

Component k has mean m_k and covariance diag(v_k) in the two-dimensional cosine basis, where the variance falls with
the frequency as in real latents. Given x = alpha x0 + sigma noise,
E[x0 | x] = sum_k p_k(x) (m_k + alpha v_k / (alpha^2 v_k + sigma^2) (x - alpha m_k)).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sigmagraft.samplers import NoiseLevels

SHAPE = (4, 8, 8)


def cosine_basis(size: int) -> Tensor:
    """Rows are the orthonormal cosines (DCT-II), [size, size]."""
    k, n = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    rows = torch.cos(math.pi / size * (n.double() + 0.5) * k) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


class Mixture:
    """The denoiser of a mixture with unit variance overall; `seed` decides everything.

    Args:
        components: number of Gaussians.
        between: share of the variance that lies between the means.
    """

    def __init__(self, levels: NoiseLevels, seed: int, components: int = 24, between: float = 0.6) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.levels = levels
        self.basis = cosine_basis(SHAPE[1])
        k = torch.arange(SHAPE[1]).double()
        falling = 1 / (1 + k[:, None] ** 2 + k[None] ** 2)
        falling = (falling / falling.mean()).expand(SHAPE).reshape(-1)
        width = torch.rand(components, 1, generator=draw, dtype=torch.float64) + 0.5
        white = torch.randn(components, falling.numel(), generator=draw, dtype=torch.float64)
        self.means = white * (between * falling).sqrt()
        self.variances = (1 - between) * width * falling
        self.logits = torch.randn(components, generator=draw, dtype=torch.float64) * 0.5

    def to_cosines(self, x: Tensor) -> Tensor:
        """[b, 4, 8, 8] -> [b, 256], orthonormal."""
        return (self.basis @ x @ self.basis.T).reshape(len(x), -1)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """E[x0 | x], in float64 whatever the dtype of x."""
        alpha = self.levels.alpha(sigma)
        z = self.to_cosines(x.double())
        variance = alpha**2 * self.variances + sigma**2
        inverse = 1 / variance
        # |z - alpha m|^2 / variance, without a [b, components, 256] array
        distance = (
            z.square() @ inverse.T
            - 2 * alpha * z @ (self.means * inverse).T
            + (alpha * self.means).square().mul(inverse).sum(1)
        )
        share = (self.logits - 0.5 * (distance + variance.log().sum(1))).softmax(-1)
        shrink = alpha * self.variances * inverse
        mean = share @ (self.means * (1 - alpha * shrink)) + z * (share @ shrink)
        return (self.basis.T @ mean.reshape(x.shape) @ self.basis).to(x.dtype)

    def noise(self, images: int, seed: int) -> Tensor:
        """[images, 4, 8, 8] of unit variance, float64."""
        return torch.randn(images, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def end(self, x: Tensor, sigma: float) -> Tensor:
        """The end point at sigma 0 of the probability-flow ODE from x, to a relative 1e-9.

        Solved in s = sigma near 0, where dx/dsigma = (x - E[x0 | x]) / sigma has a finite limit.
        """

        def slope(at: float, flat: np.ndarray) -> np.ndarray:
            point = torch.from_numpy(flat).view_as(x)
            return ((point - self(point, at)) / at).flatten().numpy()

        solved = solve_ivp(slope, (sigma, 1e-6), x.flatten().numpy(), method="DOP853", rtol=1e-9, atol=1e-10)
        if not solved.success:
            raise RuntimeError(solved.message)
        return self(torch.from_numpy(solved.y[:, -1]).view_as(x), 1e-6)
