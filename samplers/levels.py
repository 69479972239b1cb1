"""Noise levels: what a sigma means to a model (timestep, scalings) and to a solver (alpha, log-SNR, noise splits).

x = alpha * x0 + sigma * noise, with alpha = 1 (variance exploding; models of eps, v, x0 and EDM, whose own
variance-preserving x is this one times `scale_input`) or alpha = 1 - sigma (rectified flow). Everything here is Python
floats, so nothing waits for a device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

from ..core.errors import OptionError

# the hosts' stand-in for the infinite sigma of a zero-terminal-SNR model: sigma_max is about 4519
TERMINAL_ALPHA_CUMPROD = 4.8973451890853435e-08
FLOW_MULTIPLIER = 1000.0
TABLE = 1000


def linspace(first: float, last: float, count: int) -> list[float]:
    """`count` evenly spaced numbers, ends included."""
    if count == 1:
        return [first]
    return [first + (last - first) * i / (count - 1) for i in range(count - 1)] + [last]


class NoiseLevels(ABC):
    """Base of the three: variance-exploding arithmetic; a subclass adds its sigma table and timesteps.

    Attributes:
        sigmas: the training levels, ascending.
        is_flow: whether alpha = 1 - sigma.
    """

    is_flow = False
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
        """Position on the axis that training draws from evenly; schedules space it."""
        return self.timestep(sigma)

    def sigma_at(self, time: float) -> float:
        """Inverse of `time`."""
        return self.sigma(time)

    def scalings(self, prediction: str, sigma: float) -> tuple[float, float, float]:
        """(c_skip, c_out, c_in): denoised = c_skip * x + c_out * model(c_in * x, timestep(sigma)).

        Raises OptionError for a prediction these levels do not have.
        """
        norm = math.hypot(sigma, 1.0)
        table = {
            "eps": (1.0, -sigma, 1 / norm),
            "v": (1 / norm**2, -sigma / norm, 1 / norm),
            "x0": (0.0, 1.0, 1 / norm),
        }
        return self._choose(table, prediction)

    def _choose(
        self, table: dict[str, tuple[float, float, float]], prediction: str
    ) -> tuple[float, float, float]:
        if prediction not in table:
            raise OptionError(
                f"prediction {prediction!r} does not go with {type(self).__name__}",
                expected=" or ".join(table),
            )
        return table[prediction]

    def scale_input(self, sigma: float) -> float:
        """c_in: what x is multiplied by before the network sees it."""
        return 1 / math.hypot(sigma, 1.0)

    # -- the process ---------------------------------------------------------------------------------------------

    def alpha(self, sigma: float) -> float:
        """The share of x0 in x."""
        return 1.0

    def half_log_snr(self, sigma: float) -> float:
        """lambda = log(alpha / sigma), exact for either process; inf at sigma 0, -inf where alpha is 0."""
        if sigma <= 0.0:
            return math.inf
        alpha = self.alpha(sigma)
        return math.log(alpha) - math.log(sigma) if alpha > 0.0 else -math.inf

    def sigma_of(self, half_log_snr: float) -> float:
        """Inverse of `half_log_snr`."""
        return math.exp(-half_log_snr)

    def exact(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """(decay, gain): x_next = decay * x + gain * denoised solves the ODE exactly while denoised is constant."""
        decay = sigma_next / sigma
        return decay, self.alpha(sigma_next) - self.alpha(sigma) * decay

    def renoise(self, sigma: float, sigma_up: float) -> tuple[float, float]:
        """(scale, std): scale * x + std * noise takes x from level sigma up to level sigma_up >= sigma."""
        if sigma_up == sigma:
            return 1.0, 0.0
        scale = self.alpha(sigma_up) / self.alpha(sigma)
        return scale, math.sqrt(max(sigma_up**2 - (scale * sigma) ** 2, 0.0))

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> float:
        """sigma_down: the level to step down to before `renoise(sigma_down, sigma_next)` puts noise back.

        eta 0 puts none; eta 1 makes the step that of the ancestral (DDPM posterior) sampler (k-diffusion).
        """
        up = min(sigma_next, eta * sigma_next * math.sqrt(max(1 - (sigma_next / sigma) ** 2, 0.0)))
        return math.sqrt(max(sigma_next**2 - up**2, 0.0)) if up else sigma_next

    def posterior_std(self, sigma: float, sigma_next: float, eta: float) -> float:
        """DDIM's noise (arXiv:2010.02502 eq. 16): eta * sigma_next * sqrt(1 - exp(2 (lambda - lambda_next)))."""
        fraction = sigma_next * self.alpha(sigma) / (sigma * self.alpha(sigma_next)) if sigma_next else 0.0
        return eta * sigma_next * math.sqrt(max(1 - fraction**2, 0.0))

    def churn(self, sigma: float, gamma: float) -> float:
        """The level with (1 + gamma) times the noise-to-signal ratio of sigma (arXiv:2206.00364 alg. 2)."""
        return sigma * (1 + gamma)

    def check(self, sigmas: Iterable[float]) -> list[float]:
        """`sigmas` as floats. Raises OptionError unless at least two, finite, falling, >= 0 and within the process."""
        values = [float(sigma) for sigma in sigmas]
        if len(values) < 2:
            raise OptionError(
                f"{len(values)} sigmas make no step", expected="two or more", todo="ask for 1 step or more"
            )
        for index, value in enumerate(values):
            if not math.isfinite(value) or value < 0.0:
                raise OptionError(f"sigma number {index + 1} is {value:g}", expected="finite numbers >= 0")
            if index and value >= values[index - 1]:
                how = "repeats" if value == values[index - 1] else "rises above"
                raise OptionError(
                    f"sigma number {index + 1} ({value:g}) {how} the one before ({values[index - 1]:g})",
                    expected="falling sigmas",
                    todo="use fewer steps or another schedule",
                )
        if self.is_flow and values[0] > 1.0:
            raise OptionError(
                f"sigma {values[0]:g} is above 1", expected="sigmas from 1 to 0 for rectified flow"
            )
        return values

    # -- makers --------------------------------------------------------------------------------------------------

    @staticmethod
    def discrete(
        alphas_cumprod: Iterable[float] | None = None,
        *,
        betas: Iterable[float] | None = None,
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        steps: int = TABLE,
        zero_snr: bool = False,
    ) -> DiscreteLevels:
        """Levels of a model trained on discrete timesteps, sigma = sqrt((1 - ac) / ac); defaults are those of SD."""
        if alphas_cumprod is None:
            rates = make_betas(beta_schedule, beta_start, beta_end, steps) if betas is None else list(betas)
            alphas_cumprod = accumulate((1 - float(beta) for beta in rates), lambda a, b: a * b)
        return DiscreteLevels(alphas_cumprod, zero_snr=zero_snr)

    @staticmethod
    def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 0.5) -> EDMLevels:
        """Continuous levels of an EDM model (arXiv:2206.00364)."""
        return EDMLevels(sigma_min, sigma_max, sigma_data)

    @staticmethod
    def flow(shift: float = 1.0) -> FlowLevels:
        """Levels of a rectified-flow model, sigma = shift t / (1 + (shift - 1) t)."""
        return FlowLevels(shift)


def make_betas(schedule: str, start: float, end: float, steps: int) -> list[float]:
    """The training betas: `linear` (arXiv:2006.11239), `scaled_linear` (latent diffusion), `cosine` (arXiv:2102.09672)."""
    if schedule == "linear":
        return linspace(start, end, steps)
    if schedule == "scaled_linear":
        return [root**2 for root in linspace(math.sqrt(start), math.sqrt(end), steps)]
    if schedule in ("cosine", "squaredcos_cap_v2"):
        left = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return [min(1 - left[i + 1] / left[i], 0.999) for i in range(steps)]
    raise OptionError(f"unknown beta schedule {schedule!r}", expected="linear, scaled_linear or cosine")


def zero_terminal_snr(alphas_cumprod: Sequence[float]) -> list[float]:
    """arXiv:2305.08891 algorithm 1: sqrt(ac) shifted so that the last is 0, scaled so that the first stays."""
    roots = [math.sqrt(value) for value in alphas_cumprod]
    first, last = roots[0], roots[-1]
    return [((root - last) * first / (first - last)) ** 2 for root in roots]


class DiscreteLevels(NoiseLevels):
    """A table of sigmas; between its entries, log sigma is linear in the timestep (as in k-diffusion).

    Raises OptionError if the sigmas do not rise.
    """

    def __init__(self, alphas_cumprod: Iterable[float], zero_snr: bool = False) -> None:
        cumulative = [float(value) for value in alphas_cumprod]
        if zero_snr:
            cumulative = zero_terminal_snr(cumulative)
        cumulative = [max(value, TERMINAL_ALPHA_CUMPROD) for value in cumulative]
        self.sigmas = tuple(math.sqrt((1 - value) / value) for value in cumulative)
        if len(self.sigmas) < 2 or any(b <= a for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise OptionError(
                "alphas_cumprod does not fall from one timestep to the next", expected="a falling table"
            )

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
        if weight in (0.0, 1.0):
            return self.sigmas[low + int(weight)]
        return math.exp((1 - weight) * self._logs[low] + weight * self._logs[low + 1])


class EDMLevels(NoiseLevels):
    """Continuous sigmas; the network is told c_noise = log(sigma) / 4 and its data have deviation sigma_data."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 0.5) -> None:
        if not 0.0 < sigma_min < sigma_max < math.inf:
            raise OptionError(
                f"sigma range {sigma_min:g} to {sigma_max:g}", expected="0 < sigma_min < sigma_max"
            )
        self.sigma_data = sigma_data
        self.sigmas = tuple(math.exp(v) for v in linspace(math.log(sigma_min), math.log(sigma_max), TABLE))

    def timestep(self, sigma: float) -> float:
        return math.log(max(sigma, self.sigma_min)) / 4

    def sigma(self, timestep: float) -> float:
        return math.exp(4 * timestep)

    def scale_input(self, sigma: float) -> float:
        return 1 / math.hypot(sigma, self.sigma_data)

    def scalings(self, prediction: str, sigma: float) -> tuple[float, float, float]:
        data, norm = self.sigma_data, math.hypot(sigma, self.sigma_data)
        skip, c_in = (data / norm) ** 2, 1 / norm
        # "v" on EDM levels is the same network read with the other sign of its output (CosXL)
        table = {
            "edm": (skip, sigma * data / norm, c_in),
            "v": (skip, -sigma * data / norm, c_in),
            "eps": (1.0, -sigma, c_in),
            "x0": (0.0, 1.0, c_in),
        }
        return self._choose(table, prediction)


class FlowLevels(NoiseLevels):
    """Rectified flow: x = (1 - sigma) x0 + sigma noise, v = noise - x0, the network is told 1000 sigma."""

    is_flow = True

    def __init__(self, shift: float = 1.0) -> None:
        if not 0.0 < shift < math.inf:
            raise OptionError(
                f"shift {shift:g}", expected="a number above 0", todo="3 is common for SDXL flow models"
            )
        self.shift = shift
        self.sigmas = tuple(self.sigma_at(FLOW_MULTIPLIER * (i + 1) / TABLE) for i in range(TABLE))

    def timestep(self, sigma: float) -> float:
        return FLOW_MULTIPLIER * sigma

    def sigma(self, timestep: float) -> float:
        return timestep / FLOW_MULTIPLIER

    def time(self, sigma: float) -> float:
        return FLOW_MULTIPLIER * sigma / (self.shift - (self.shift - 1) * sigma)

    def sigma_at(self, time: float) -> float:
        t = time / FLOW_MULTIPLIER
        return self.shift * t / (1 + (self.shift - 1) * t)

    def scale_input(self, sigma: float) -> float:
        return 1.0

    def scalings(self, prediction: str, sigma: float) -> tuple[float, float, float]:
        return self._choose({"flow": (1.0, -sigma, 1.0)}, prediction)

    def alpha(self, sigma: float) -> float:
        return 1.0 - sigma

    def sigma_of(self, half_log_snr: float) -> float:
        return 1 / (1 + math.exp(half_log_snr)) if half_log_snr < 700 else 0.0

    def renoise(self, sigma: float, sigma_up: float) -> tuple[float, float]:
        return super().renoise(sigma, sigma_up) if sigma < 1.0 else (1.0, 0.0)

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> float:
        """The hosts' rule for rectified flow: sigma_next * (1 + (sigma_next / sigma - 1) eta)."""
        return sigma_next * max(1 + (sigma_next / sigma - 1) * eta, 0.0)

    def churn(self, sigma: float, gamma: float) -> float:
        return sigma * (1 + gamma) / (1 + sigma * gamma)
