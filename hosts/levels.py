"""A host model's noise levels as ours, from the table of sigmas it carries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from ..core.errors import OptionError
from ..samplers.levels import TIMESTEPS, DiscreteLevels, FlowLevels, NoiseLevels
from ..samplers.process import RectifiedFlow

TOLERANCE = 1e-4  # relative; a float32 table of ten thousand levels stays well within


def levels_from_table(
    sigmas: Sequence[float], *, is_flow: bool = False, shift: float | None = None
) -> NoiseLevels:
    """Levels of a model whose training sigmas are this ascending table.

    Args:
        is_flow: x = (1 - sigma) x0 + sigma noise; else x = x0 + sigma noise.
        shift: of a flow model, where the host tells it; levels even in shifted time are then exact.

    Raises OptionError for a table that does not rise.
    """
    table = [float(value) for value in sigmas]
    if len(table) < 2 or table[0] < 0.0 or not all(a < b for a, b in pairwise(table)):
        raise OptionError("the model's sigmas do not rise", "this model", "an ascending table of two or more")
    if not is_flow:
        return DiscreteLevels(1 / (1 + sigma**2) for sigma in table)
    if shift is not None and _near(table, flow := FlowLevels(shift, len(table))):
        return flow
    return TableFlow(table)


def _near(table: Sequence[float], flow: FlowLevels) -> bool:
    return all(abs(a - b) <= TOLERANCE * b for a, b in zip(table, flow.sigmas, strict=True))


class TableFlow(RectifiedFlow, NoiseLevels):
    """Rectified flow whose training times are a table: time and sigma are linear between its entries."""

    def __init__(self, table: Sequence[float]) -> None:
        self.sigmas = tuple(sigma for sigma in table if sigma > 0.0)

    def timestep(self, sigma: float) -> float:
        return TIMESTEPS * sigma

    def sigma(self, timestep: float) -> float:
        return timestep / TIMESTEPS

    def time(self, sigma: float) -> float:
        low, high, below = self._around(bisect_left(self.sigmas, sigma))
        return (below + (sigma - low) / (high - low)) * TIMESTEPS / len(self.sigmas)

    def sigma_at(self, time: float) -> float:
        place = time * len(self.sigmas) / TIMESTEPS
        low, high, below = self._around(int(place))
        return low + (place - below) * (high - low)

    def _around(self, place: int) -> tuple[float, float, int]:
        """The entries before and at `place`, counted from 1 above sigma 0, and the place of the first of them."""
        at = min(max(place, 0), len(self.sigmas) - 1)
        return (self.sigmas[at - 1] if at else 0.0), self.sigmas[at], at

    def scale_input(self, sigma: float) -> float:
        return 1.0

    def predictions(self, sigma: float) -> dict[str, tuple[float, float]]:
        return {"flow": (1.0, -sigma)}
