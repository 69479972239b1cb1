"""Estimating the statistics that DPM-Solver-v3 goes by, along a model's own trajectories (arXiv:2310.13268, 3.1, 3.2).

The moments of z = x / alpha, E = z - D, E' = dE / dlambda along the trajectory and of the diagonal of dD / dz are
all that is kept, so that any number of images fits. F = l z - E and F' = l' z - l E - E' then follow for any l.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .drive import Denoise, drive
from .levels import NoiseLevels
from .model_statistics import ModelStatistics, chebyshev_points, polynomial
from .statistics_jacobian import derivative, jacobian_diagonal, step_of

ROWS = 40  # levels that are measured
DEGREE = 18  # of the polynomials in lambda through what was measured; fewer than ROWS, so they smooth it
FARTHEST = -5.0  # lambda; above that much noise D is the mean of the data for any x
WALKER = "dpmpp_2m"
RIDGE = 0.01
VARIANCE = 6.0  # |log(v)| of the data at most, v in units of a latent's own
APART = 2.0  # of a place's logit(l) from its channel's, at most
Progress = Callable[[int, int], None]


class Estimator:
    """Statistics in the making.

        estimator = Estimator(levels)
        for prompts, noise in batches:
            estimator.add(denoiser_for(prompts), noise)
        statistics = estimator.result({"model": ...})

    Args:
        network: the dtype that the model works in where it is coarser than the latents'.
        positions: tables for each place of a latent as in the paper, not one for each channel. They fit latents of
            this size only, and want hundreds of images: the estimate of a Jacobian's diagonal is noisy at a place.
    """

    def __init__(
        self,
        levels: NoiseLevels,
        *,
        rows: int = ROWS,
        degree: int = DEGREE,
        positions: bool = False,
        network: torch.dtype = torch.float64,
    ) -> None:
        if not 0 <= degree < rows:
            raise OptionError(f"degree {degree} of {rows} rows", expected=f"0 to {rows - 1}")
        self.levels, self.degree, self.positions, self.network = levels, degree, positions, network
        high = levels.half_log_snr(levels.sigma_min)
        low = max(levels.half_log_snr(levels.sigma_max), FARTHEST)
        inset = (high - low) / (4 * rows)  # finite differences reach beyond a row
        self.lambdas = chebyshev_points(rows, low + inset, high - inset)
        self.images, self.ways = 0, set[str]()
        self._sums: dict[int, Tensor] = {}

    def add(self, denoise: Denoise, x: Tensor, progress: Progress | None = None) -> None:
        """Measure along the trajectories of x [b, c, ...], which is noise of the model's highest level.

        `progress` is told (rows done, rows). Raises NonFiniteError where the model answers NaN.
        """
        sigmas = [self.levels.sigma_of(value) for value in self.lambdas]
        # the first step of a walk from noise alone is not measured: there D says nothing of x
        ahead = [self.levels.sigma_max] if self.levels.sigma_max > sigmas[0] * (1 + 1e-6) else []
        numbers = {sigma: number for number, sigma in enumerate(sigmas)}

        def measured(at: Tensor, sigma: float) -> Tensor:
            denoised = denoise(at, sigma)
            if (number := numbers.get(sigma)) is not None:
                self._see(number, denoise, at, sigma, denoised)
                if progress is not None:
                    progress(number + 1, len(sigmas))
            return denoised

        # a last step, which the walker takes without another evaluation
        drive(WALKER, measured, x, [*ahead, *sigmas, 0.0], levels=self.levels)
        self.images += len(x)

    def _see(self, number: int, denoise: Denoise, x: Tensor, sigma: float, denoised: Tensor) -> None:
        alpha, place = self.levels.alpha(sigma), self.lambdas[number]
        step = step_of(x.dtype, self.network)
        seed = self.images * len(self.lambdas) + number
        diagonal, way = jacobian_diagonal(denoise, x, sigma, step, seed)
        self.ways.add(way)
        z = x / alpha
        noise = z - denoised
        slope = -noise - derivative(denoise, self.levels, z, -noise, place, step)
        z, e, f = (tensor.double() for tensor in (z, noise, slope))
        kept = torch.stack([alpha * diagonal.double(), z, e, f, z * z, z * e, e * e, z * f, e * f])
        kept = kept.cpu().sum(1)
        if not self.positions and kept.ndim > 2:
            kept = kept.mean(tuple(range(2, kept.ndim)), keepdim=True)
        self._sums[number] = self._sums.get(number, 0) + kept

    def result(self, facts: Mapping[str, Any] | None = None) -> ModelStatistics:
        """The tables, with what they were measured on. Raises OptionError before any image was added."""
        if not self.images:
            raise OptionError("no image was measured", todo="call `add` first")
        rows = torch.stack([self._sums[k] for k in range(len(self.lambdas))], dim=1) / self.images
        diagonal, z, e, f = rows[:4]
        zz, ze, ee, zf, ef = rows[4:] - torch.stack([z * z, z * e, e * e, z * f, e * f])
        smooth = polynomial(self.lambdas, self._logit(1 - diagonal), self.degree)
        l = smooth(self.lambdas).sigmoid()  # noqa: E741
        l_slope = l * (1 - l) * smooth(self.lambdas, derived=True)
        spread = l * l * zz - 2 * l * ze + ee
        along = l_slope * (l * zz - ze) - l * (l * ze - ee) - l * zf + ef
        force = l * z - e
        # where F is the same for every image, s and b are not two: the ridge leaves all to b
        s = along / (spread + RIDGE * (spread + force * force)).clamp_min(1e-300)
        b = l_slope * z - l * e - f - s * force
        places = chebyshev_points(self.degree + 1, self.lambdas[0], self.lambdas[-1])
        tables = [
            smooth(places).sigmoid(),
            *(polynomial(self.lambdas, raw, self.degree)(places) for raw in (s, b)),
        ]
        told = {"images": self.images, "jacobian": " and ".join(sorted(self.ways)), **(facts or {})}
        return ModelStatistics(tuple(places), *tables, facts=told)

    def _logit(self, l: Tensor) -> Tensor:  # noqa: E741
        """logit(l), held to what is sane: data of variance v have -2 lambda - log(v); a place is near its channel's."""
        prior = -2 * torch.tensor(self.lambdas, dtype=torch.float64).reshape(-1, *[1] * (l.ndim - 1))
        axes = tuple(range(2, l.ndim))
        channel = torch.logit(l.mean(axes, keepdim=True) if axes else l, 1e-9)
        channel = torch.clamp(channel, prior - VARIANCE, prior + VARIANCE)
        return torch.clamp(torch.logit(l, 1e-9), channel - APART, channel + APART)
