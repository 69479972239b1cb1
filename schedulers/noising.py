"""Noise put on clean samples, as training and img2img do."""

from __future__ import annotations

import torch
from torch import Tensor

from . import given
from .running import Running


class Noising(Running):
    """add_noise and its kin. They read nothing back from the device."""

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha x0 + sigma noise, [b, ...], at the timestep [b] of each sample.

        A class with sigmas of its own goes by the run's timesteps, or after `set_begin_index` by the place it
        stands at; any other timestep, and each before `set_timesteps`, is taken for one of training.

        Raises OptionError for timesteps out of range, where they are on the CPU.
        """
        alpha, sigma = self._mixing(timesteps, original_samples)
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """`add_noise` with its arguments in the order of the flow classes."""
        return self.add_noise(sample, noise, timestep)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = alpha noise - sigma x0 in coordinates of unit variance (arXiv:2202.00512)."""
        alpha, sigma = self._mixing(timesteps, sample)
        return (alpha * noise - sigma * sample) / torch.hypot(alpha, sigma)

    def _mixing(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, each [b, 1, ...]."""
        times = given.times(timesteps)
        trained = self.row.table or (self._walker is None and self._training is not None)
        pairs = self._of_training(times) if trained else self._of_run(times)
        alpha, sigma = pairs.to(device=like.device, dtype=like.dtype).unbind(-1)
        shape = (-1, *[1] * (like.ndim - 1))
        return alpha.reshape(shape), sigma.reshape(shape)

    def _of_training(self, times: Tensor) -> Tensor:
        given.within(times, 0, len(self._training_table) - 1)
        return self._training_table.to(times.device)[times.long()]

    def _of_run(self, times: Tensor) -> Tensor:
        plan, space = self._plan, self._space
        table = torch.tensor([space.mixing(space.ratio(each.sigma)) for each in plan.evaluations])
        if self.begin_index is not None:
            here = self.begin_index if self.step_index is None else self.step_index
            return table[here].expand(len(times), 2)
        away, nearest = (plan.timesteps.to(times.device)[None] - times[:, None]).abs().min(1)
        found = table.to(times.device)[nearest]
        known = away < 1e-2
        if self._training is None:
            given.within(times, *self._range())
            return found
        return torch.where(known[:, None], found, self._of_training(torch.where(known, 0, times)))

    def _range(self) -> tuple[float, float]:
        """Lowest and highest timestep of a class without a table; rectified flow is trained from 0 to N."""
        times = [*self._plan.times, *((0.0, float(len(self))) if self._space.levels.is_flow else ())]
        return min(times) - 1e-2, max(times) + 1e-2
