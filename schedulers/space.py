"""The coordinates a class keeps its sample in: the levels its solver walks, and how its outputs are read.

A place is written as its noise-to-signal ratio (`scheduler.sigmas`), on rectified flow as its sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import OptionError
from ..samplers.levels import DiscreteLevels, FlowLevels, NoiseLevels
from ..samplers.process import Process

# a config's prediction_type by the names of samplers/levels.py
PREDICTIONS = {
    "epsilon": "eps",
    "sample": "x0",
    "original_sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "flow",
}


def ratios(alphas_cumprod: Sequence[float]) -> list[float]:
    """sqrt((1 - ac) / ac) of each; inf where ac is 0."""
    return [math.sqrt((1.0 - value) / value) if value > 0.0 else math.inf for value in alphas_cumprod]


def preserving(ratio: float) -> float:
    """The sigma of unit variance, alpha^2 + sigma^2 = 1, at this noise-to-signal ratio."""
    return ratio / math.hypot(ratio, 1.0) if ratio < math.inf else 1.0


def ratio_of(sigma: float) -> float:
    """Inverse of `preserving`."""
    return sigma / math.sqrt((1.0 - sigma) * (1.0 + sigma)) if sigma < 1.0 else math.inf


def predictions(alpha: float, sigma: float) -> dict[str, tuple[float, float]]:
    """(c_skip, c_out) for x = alpha x0 + sigma noise, where v = alpha noise - sigma x0."""
    norm = alpha**2 + sigma**2
    table = {"x0": (0.0, 1.0), "v": (alpha / norm, -sigma / norm)}
    return {**table, "eps": (1 / alpha, -sigma / alpha)} if alpha > 0.0 else table


class VariancePreserving(Process):
    """x = alpha x0 + sigma noise, alpha^2 + sigma^2 = 1; sigma 1 is noise alone (arXiv:2006.11239)."""

    def alpha(self, sigma: float) -> float:
        return math.sqrt(max((1.0 - sigma) * (1.0 + sigma), 0.0))

    def sigma_of(self, half_log_snr: float) -> float:
        return preserving(math.exp(-half_log_snr)) if half_log_snr > -700 else 1.0

    def renoise(self, sigma: float, sigma_up: float) -> tuple[float, float]:
        # at sigma 1 there is no signal left to outweigh
        return super().renoise(sigma, sigma_up) if sigma < 1.0 else (1.0, 0.0)

    def churn(self, sigma: float, gamma: float) -> float:
        return preserving((1 + gamma) * ratio_of(sigma))


class UnitLevels(VariancePreserving, DiscreteLevels):
    """The levels of a table of alphas_cumprod, whose last may be 0, in coordinates of unit variance."""

    def __init__(self, alphas_cumprod: Sequence[float]) -> None:
        self._ratios = DiscreteLevels(alphas_cumprod)
        self.sigmas = tuple(map(preserving, ratios(alphas_cumprod)))

    def timestep(self, sigma: float) -> float:
        return self._ratios.timestep(ratio_of(sigma)) if sigma < 1.0 else len(self.sigmas) - 1.0

    def sigma(self, timestep: float) -> float:
        position = float(min(max(timestep, 0.0), len(self.sigmas) - 1.0))
        if position.is_integer():  # the table itself, without a rounding
            return self.sigmas[int(position)]
        return preserving(self._ratios.sigma(position))

    def scale_input(self, sigma: float) -> float:
        return 1.0

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        return predictions(self.alpha(sigma), sigma)


class RoundedLevels(DiscreteLevels):
    """As DiscreteLevels, with training times taken down to whole ones, as PNDM's middle stages have them."""

    def sigma_at(self, time: float) -> float:
        return super().sigma_at(math.floor(time + 1e-6))


class ModelFlow(FlowLevels):
    """Rectified flow whose network may predict the noise, x0 or v as well; timesteps run to `steps`.

    "inverted" is flow with the other sign, x0 - noise.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(1.0)
        self.steps = steps

    def timestep(self, sigma: float) -> float:
        return self.steps * sigma

    def sigma(self, timestep: float) -> float:
        return timestep / self.steps

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        table = {**predictions(self.alpha(sigma), sigma), "inverted": (1.0, sigma)}
        return {**table, **super().predictions(sigma)}


@dataclass(frozen=True)
class Space:
    """Levels of the walk, and how a sample and a place are brought there.

    Attributes:
        level: ratio -> sigma of the walk.
        ratio: its inverse.
        stretch: sigma of the walk -> what a sample is multiplied by; None where it is the walk's own x.
        scaled: whether the network's input is the sample times c_in.
    """

    levels: NoiseLevels
    level: Callable[[float], float] = float
    ratio: Callable[[float], float] = float
    stretch: Callable[[float], float] | None = None
    scaled: bool = False

    def scalings(self, prediction: str, sigma: float) -> tuple[float, float]:
        """(c_skip, c_out) in the coordinates of the walk. Raises OptionError for a prediction that cannot be."""
        table = self.levels.predictions(sigma)
        if prediction not in table:
            spoken = [name for name, short in PREDICTIONS.items() if short in table]
            raise OptionError(
                f"prediction_type {prediction!r} at sigma {sigma:g}", expected=" or ".join(spoken) or None
            )
        return table[prediction]

    def mixing(self, ratio: float) -> tuple[float, float]:
        """(alpha, sigma) of a sample there: alpha x0 + sigma noise."""
        if self.stretch:
            return 1 / math.hypot(ratio, 1.0), preserving(ratio)
        sigma = self.level(ratio)
        return self.levels.alpha(sigma), sigma


def exploding(alphas_cumprod: Sequence[float]) -> Space:
    """x = x0 + sigma noise, as k-diffusion has it."""
    return Space(DiscreteLevels(alphas_cumprod), scaled=True)


def unit(alphas_cumprod: Sequence[float]) -> Space:
    """x of unit variance; the walk is in the same coordinates."""
    return Space(UnitLevels(alphas_cumprod), preserving, ratio_of)


def stretched(alphas_cumprod: Sequence[float]) -> Space:
    """x of unit variance, walked as x0 + ratio noise: for multistep methods whose slopes are taken in the ratio."""
    return Space(RoundedLevels(alphas_cumprod), stretch=lambda sigma: math.hypot(sigma, 1.0))


def flow(steps: int) -> Space:
    """x = (1 - sigma) x0 + sigma noise."""
    return Space(ModelFlow(steps))


def inverted_flow(steps: int) -> Space:
    """The same with places counted as 1 - sigma, from noise at 0 to data at 1."""
    return Space(ModelFlow(steps), lambda place: 1.0 - place, lambda sigma: 1.0 - sigma)
