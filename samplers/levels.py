"""What a sigma means to a network: its timestep, the scalings of input and output, the training levels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from ..core.errors import OptionError
from .betas import cumulate, linspace, make_betas, zero_terminal_snr
from .process import Process, RectifiedFlow

# stands for the 0 at the end of a zero-terminal-SNR table, as in ComfyUI and A1111: sigma_max is about 4519
TERMINAL_ALPHA_CUMPROD = 4.8973451890853435e-08
TIMESTEPS = 1000
Scalings = tuple[float, float, float]


class NoiseLevels(Process, ABC):
    """A process with the levels a model was trained at.

    Attributes:
        sigmas: the training levels, ascending, all above 0.
    """

    sigmas: Sequence[float]

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1]

    @abstractmethod
    def timestep(self, sigma: float) -> float:
        """What the network is told for this sigma."""

    @abstractmethod
    def sigma(self, timestep: float) -> float:
        """Inverse of `timestep`."""

    def time(self, sigma: float) -> float:
        """Position on the axis that training drew from evenly; schedules space it."""
        return self.timestep(sigma)

    def sigma_at(self, time: float) -> float:
        """Inverse of `time`."""
        return self.sigma(time)

    def scale_input(self, sigma: float) -> float:
        """c_in: what x is multiplied by before the network sees it."""
        return 1 / math.hypot(sigma, 1.0)

    @abstractmethod
    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        """(c_skip, c_out) of each prediction that goes with these levels."""

    def scalings(self, prediction: str, sigma: float) -> Scalings:
        """(c_skip, c_out, c_in): denoised = c_skip * x + c_out * network(c_in * x, timestep(sigma)).

        Raises OptionError for a prediction that does not go with these levels.
        """
        table = self.predictions(sigma)
        if prediction not in table:
            name = type(self).__name__
            raise OptionError(f"prediction {prediction!r} on {name}", expected=" or ".join(table))
        return *table[prediction], self.scale_input(sigma)

    def check(
        self, sigmas: Iterable[float], todo: str = "use fewer steps or another schedule"
    ) -> list[float]:
        """`sigmas` as floats. Raises OptionError unless two or more, finite, >= 0 and falling."""
        values = numbers(sigmas, "sigmas")
        if len(values) < 2:
            raise OptionError(f"{len(values)} sigmas make no step", expected="two or more")
        for number, value in enumerate(values, 1):
            if not math.isfinite(value) or value < 0.0:
                raise OptionError(f"sigma number {number} is {value:g}", expected="finite numbers >= 0")
        for number, (before, value) in enumerate(pairwise(values), 2):
            if value >= before:
                how = "repeats" if value == before else "rises above"
                what = f"sigma number {number} ({value:g}) {how} the one before ({before:g})"
                raise OptionError(what, expected="falling sigmas", todo=todo)
        if self.is_flow and values[0] > 1.0:
            raise OptionError(f"sigma {values[0]:g} is above 1", expected="1 to 0 for rectified flow")
        return values

    @staticmethod
    def discrete(
        alphas_cumprod: Iterable[float] | None = None,
        *,
        betas: Iterable[float] | None = None,
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        steps: int = TIMESTEPS,
        zero_snr: bool = False,
    ) -> DiscreteLevels:
        """Levels of a model with discrete timesteps; the defaults are those of Stable Diffusion.

        Args:
            alphas_cumprod, betas: the model's own table, instead of the named schedule.
            zero_snr: rescale to zero terminal SNR (arXiv:2305.08891).
        """
        if alphas_cumprod is None:
            alphas_cumprod = cumulate(betas or make_betas(beta_schedule, beta_start, beta_end, steps))
        table = [float(value) for value in alphas_cumprod]
        return DiscreteLevels(zero_terminal_snr(table) if zero_snr else table)

    @staticmethod
    def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 0.5) -> EDMLevels:
        """Continuous levels of an EDM model (arXiv:2206.00364)."""
        return EDMLevels(sigma_min, sigma_max, sigma_data)

    @staticmethod
    def flow(shift: float = 1.0) -> FlowLevels:
        """Levels of a rectified-flow model whose times are shifted (arXiv:2403.03206 eq. 23)."""
        return FlowLevels(shift)


def numbers(values: Any, name: str) -> list[float]:
    """A list of numbers as floats. Raises OptionError for anything else, text included."""
    try:
        if isinstance(values, str):
            raise TypeError
        return [float(value) for value in values]
    except (TypeError, ValueError):
        raise OptionError(f"{name} {values!r:.80}", expected="a list of numbers") from None


def are_levels(levels: Any) -> NoiseLevels:
    """`levels`, if they are. Raises OptionError."""
    if not isinstance(levels, NoiseLevels):
        todo = "NoiseLevels.discrete() are Stable Diffusion's"
        raise OptionError(f"levels {levels!r:.80}", expected="NoiseLevels", todo=todo)
    return levels


def terminal(before: float, usual: float = TERMINAL_ALPHA_CUMPROD) -> float:
    """What stands for the 0 that ends a zero-terminal-SNR table: `usual`, or less where the entry before is less."""
    return usual if usual < before else before / 4


class DiscreteLevels(NoiseLevels):
    """sigma_t = sqrt((1 - ac_t) / ac_t); log sigma is linear between timesteps, as in k-diffusion.

    Raises OptionError if alphas_cumprod does not fall.
    """

    def __init__(self, alphas_cumprod: Iterable[float]) -> None:
        table = [float(value) for value in alphas_cumprod]
        if len(table) > 1 and table[-1] <= 0.0:
            table[-1] = terminal(table[-2])
        if len(table) < 2 or table[0] >= 1.0 or not all(a > b for a, b in pairwise(table)):
            raise OptionError("alphas_cumprod does not fall at every timestep", expected="values from 1 to 0")
        self.sigmas = tuple(math.sqrt((1 - value) / value) for value in table)

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(math.log(sigma) for sigma in self.sigmas)

    def timestep(self, sigma: float) -> float:
        if sigma <= self.sigmas[0]:
            return 0.0
        low = min(bisect_right(self.sigmas, sigma) - 1, len(self.sigmas) - 2)
        weight = (math.log(sigma) - self._logs[low]) / (self._logs[low + 1] - self._logs[low])
        return low + min(weight, 1.0)

    def sigma(self, timestep: float) -> float:
        position = min(max(timestep, 0.0), len(self.sigmas) - 1.0)
        low = min(int(position), len(self.sigmas) - 2)
        weight = position - low
        if weight in (0.0, 1.0):  # the table itself, without a rounding
            return self.sigmas[low + int(weight)]
        return math.exp((1 - weight) * self._logs[low] + weight * self._logs[low + 1])

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        norm = math.hypot(sigma, 1.0)
        return {"eps": (1.0, -sigma), "v": (1 / norm**2, -sigma / norm), "x0": (0.0, 1.0)}


class EDMLevels(NoiseLevels):
    """Any sigma; the network is told c_noise = log(sigma) / 4, its data have deviation sigma_data."""

    def __init__(self, sigma_min: float, sigma_max: float, sigma_data: float) -> None:
        if not 0.0 < sigma_min < sigma_max < math.inf:
            raise OptionError(
                f"sigmas from {sigma_min:g} to {sigma_max:g}", expected="0 < sigma_min < sigma_max"
            )
        self.sigma_data = sigma_data
        logs = linspace(math.log(sigma_min), math.log(sigma_max), TIMESTEPS)
        self.sigmas = (sigma_min, *(math.exp(value) for value in logs[1:-1]), sigma_max)

    def timestep(self, sigma: float) -> float:
        return math.log(max(sigma, self.sigma_min)) / 4

    def sigma(self, timestep: float) -> float:
        return math.exp(4 * timestep)

    def scale_input(self, sigma: float) -> float:
        return 1 / math.hypot(sigma, self.sigma_data)

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        norm = math.hypot(sigma, self.sigma_data)
        skip, out = (self.sigma_data / norm) ** 2, sigma * self.sigma_data / norm
        # v on these levels (CosXL) is edm with the other sign
        return {"edm": (skip, out), "v": (skip, -out), "eps": (1.0, -sigma), "x0": (0.0, 1.0)}


class FlowLevels(RectifiedFlow, NoiseLevels):
    """sigma = shift t / (1 + (shift - 1) t); the network predicts noise - x0 and is told 1000 sigma.

    `count` levels were trained, at even t from 1 / count to 1.
    """

    def __init__(self, shift: float, count: int = TIMESTEPS) -> None:
        if not 0.0 < shift < math.inf:
            raise OptionError(
                f"shift {shift:g}", expected="a number above 0", todo="1 shifts nothing, 3 is common"
            )
        self.shift = shift
        self.sigmas = tuple(self.sigma_at(TIMESTEPS * t / count) for t in range(1, count + 1))

    def timestep(self, sigma: float) -> float:
        return TIMESTEPS * sigma

    def sigma(self, timestep: float) -> float:
        return timestep / TIMESTEPS

    def time(self, sigma: float) -> float:
        return TIMESTEPS * sigma / (self.shift - (self.shift - 1) * sigma)

    def sigma_at(self, time: float) -> float:
        t = time / TIMESTEPS
        return self.shift * t / (1 + (self.shift - 1) * t)

    def scale_input(self, sigma: float) -> float:
        return 1.0

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        return {"flow": (1.0, -sigma)}
