"""The levels of training that a config describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from ..core.errors import OptionError
from ..samplers.betas import make_betas, zero_terminal_snr
from ..samplers.levels import DiscreteLevels, terminal
from .space import ratios


class Training:
    """betas, alphas, alphas_cumprod as float32 tensors on the CPU, the precision models are trained with.

    Args:
        floor: what stands for alphas_cumprod 0 of zero terminal SNR; None leaves the 0.

    Attributes:
        table: alphas_cumprod as floats.
    """

    def __init__(self, config: Mapping[str, Any], floor: float | None = None) -> None:
        self.betas = torch.tensor(self._betas(config), dtype=torch.float32)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        if config.get("rescale_betas_zero_snr"):
            self._rescale(floor)
        self.table: list[float] = self.alphas_cumprod.tolist()

    def _betas(self, config: Mapping[str, Any]) -> list[float]:
        trained = config["trained_betas"]
        if trained is not None:
            return [float(beta) for beta in trained]
        start, end, steps = config["beta_start"], config["beta_end"], config["num_train_timesteps"]
        return make_betas(config["beta_schedule"], start, end, steps)

    def _rescale(self, floor: float | None) -> None:
        kept = torch.tensor(zero_terminal_snr(self.alphas_cumprod.tolist()))
        self.alphas = torch.cat([kept[:1], kept[1:] / kept[:-1]])
        self.betas = 1.0 - self.alphas
        self.alphas_cumprod = kept
        if floor is not None:
            # diffusers puts it there even where that rises again (its default linear betas), which no solver can walk
            self.alphas_cumprod[-1] = terminal(float(self.alphas_cumprod[-2]), floor)

    @cached_property
    def ratios(self) -> list[float]:
        """sqrt((1 - ac) / ac) of each timestep; inf where ac is 0."""
        return ratios(self.table)

    @cached_property
    def _levels(self) -> DiscreteLevels:
        return DiscreteLevels(self.table)

    def timestep(self, ratio: float) -> float:
        """The timestep of a ratio, linear in log ratio between whole ones."""
        return self._levels.timestep(ratio)

    def ratio(self, timestep: float) -> float:
        """The ratio at a timestep, linear in the ratio between whole ones, as diffusers interpolates it."""
        if not 0.0 <= timestep <= len(self.ratios) - 1:
            raise OptionError(f"timestep {timestep:g}", expected=f"0 to {len(self.ratios) - 1}")
        low = int(timestep)
        weight = timestep - low
        if weight == 0.0:
            return self.ratios[low]
        return (1 - weight) * self.ratios[low] + weight * self.ratios[low + 1]
