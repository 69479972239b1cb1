"""Derivatives of a denoiser: the diagonal of its Jacobian, and its rate along a direction in x and lambda."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .drive import Denoise
from .levels import NoiseLevels

FORWARD, DIFFERENCES = "forward-mode", "finite differences"
# steps of central differences: near the cube root of the precision that a network of this dtype answers with
STEPS = {torch.float64: 1e-4, torch.float32: 0.02}
COARSE = 0.1


def step_of(*dtypes: torch.dtype) -> float:
    """The step that suits the coarsest of these dtypes: that of the latents, and that of the network within."""
    return max(STEPS.get(dtype, COARSE) for dtype in dtypes)


def jacobian_diagonal(
    denoise: Denoise, x: Tensor, sigma: float, step: float, seed: int
) -> tuple[Tensor, str]:
    """(v (J v), how), whose mean over random signs v is the diagonal of J = dD / dx (Hutchinson's estimator).

    By forward-mode differentiation; where the network cannot be differentiated so, by differences of `step` sigma.
    """
    draw = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, x.shape, generator=draw).to(x) * 2 - 1
    try:
        # the fused attention kernels have no forward mode
        with sdpa_kernel(SDPBackend.MATH):
            found = torch.func.jvp(lambda at: denoise(at, sigma), (x,), (signs,))
        return signs * found[1], FORWARD
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
    reach = signs * (step * sigma)
    change = (denoise(x + reach, sigma) - denoise(x - reach, sigma)) / (2 * step * sigma)
    return signs * change, DIFFERENCES


def derivative(
    denoise: Denoise, levels: NoiseLevels, z: Tensor, slope: Tensor, place: float, step: float
) -> Tensor:
    """dD / dlambda along z + slope dlambda, by central differences: the network's timestep is no tensor."""
    ends = []
    for way in (step, -step):
        sigma = levels.sigma_of(place + way)
        ends.append(denoise((z + slope * way) * levels.alpha(sigma), sigma))
    return (ends[0] - ends[1]) / (2 * step)
