"""A denoiser as the model that functions in k-diffusion's convention are given."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .levels import NoiseLevels


def step_of(sigmas: Sequence[float], sigma: float) -> int:
    """The step i of a walk that sigma lies in: sigmas[i] >= sigma > sigmas[i + 1], or the first or last step."""
    at = bisect_right(sigmas, -sigma, key=lambda value: -value) - 1
    return min(max(at, 0), len(sigmas) - 2)


class KDiffusionModel:
    """model(x, sigma, **extra_args) -> denoised, sigma a tensor [b]; with the attributes of k-diffusion's wrappers.

    `denoise(x, sigma, **extra)` takes sigma as a float: a `Denoiser` with `extra_args={"cond": ...}`, or one under
    guidance. A sigma within float32 of one in `sigmas` is taken as that one, so that no rounding reaches the network.

    Attributes:
        inner_model: the model itself, since functions look for `sigma_to_t` at several depths.
        levels: what its sigmas mean; our own exported functions read it.
    """

    sigma_data = 1.0

    def __init__(
        self,
        denoise: Callable[..., Tensor],
        levels: NoiseLevels,
        sigmas: Sequence[float] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.denoise, self.levels, self.device = denoise, levels, torch.device(device)
        self.known = tuple(sigmas)

    @property
    def inner_model(self) -> KDiffusionModel:
        return self

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """Raises OptionError where the images of the batch have different sigmas."""
        told = set(sigma.flatten().tolist())
        if len(told) != 1:
            raise OptionError(f"{len(told)} sigmas in one evaluation", expected="the same for every image")
        return self.denoise(x, self.exact(told.pop()), **extra)

    def exact(self, sigma: float) -> float:
        """The one of the known sigmas that `sigma` is a rounding of, or `sigma` itself."""
        near = min(self.known, key=lambda known: abs(known - sigma), default=sigma)
        return near if abs(near - sigma) <= 1e-6 * abs(sigma) else sigma

    @cached_property
    def sigmas(self) -> Tensor:
        """The training levels, ascending."""
        return torch.tensor(self.levels.sigmas, device=self.device)

    @cached_property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]

    def sigma_to_t(self, sigma: Tensor, quantize: bool | None = None) -> Tensor:
        """What the network is told for each sigma; `quantize` rounds it to whole timesteps."""
        t = _each(self.levels.timestep, sigma)
        return t.round().long() if quantize else t

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """Inverse of `sigma_to_t`."""
        return _each(self.levels.sigma, t)

    def get_sigmas(self, n: int | None = None) -> Tensor:
        """n sigmas at even times and a 0; without n the whole table, falling."""
        if n is None:
            falling = self.sigmas.flip(0)
        else:
            top, low = (self.levels.time(s) for s in (self.levels.sigma_max, self.levels.sigma_min))
            times = torch.linspace(top, low, n, dtype=torch.float64)
            falling = _each(self.levels.sigma_at, times).to(self.sigmas)
        return torch.cat([falling, falling.new_zeros(1)])


def _each(function: Callable[[float], float], values: Tensor) -> Tensor:
    """`function` of every value, computed in Python floats."""
    flat = [function(value) for value in values.flatten().tolist()]
    kind = values.dtype if values.is_floating_point() else torch.float32
    return torch.tensor(flat, dtype=kind, device=values.device).view(values.shape)
