"""The schedule `fitted`: noise levels found by gradient descent, for few steps of the Adams predictor-corrector.

fitted_table.py holds, for each number of steps, the levels at which `adams_pc` came nearest to the true end points of
random Gaussian mixtures, two thirds of them under guidance (training/fit_schedule.py). No model was used. On large
ones it is unproven; on the small bundled one under strong guidance, methods of low order on `karras` come nearer.
The levels are ratios of noise to signal, hence good for rectified flow too, whatever its shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .betas import linspace
from .fitted_table import INFINITE, SD
from .levels import NoiseLevels
from .schedules import schedule_rule

# from this ratio of noise to signal on, a walk begins as if from noise alone (EDM, zero terminal SNR, flow)
FAR = 40.0


@schedule_rule("fitted", label="Fitted", paper="after arXiv:2405.15506")
def fitted(n: int, levels: NoiseLevels) -> list[float]:
    """Levels fitted to the solver for 2 to 20 steps; a count that has none takes those of the next smaller, spread out.

    Above 20 steps the last level is drawn towards sigma_min as well. Levels beyond the model's range are squeezed in.
    """
    if n == 1:
        return [levels.sigma_max]
    top, lowest = levels.half_log_snr(levels.sigma_max), levels.half_log_snr(levels.sigma_min)
    table = INFINITE if -top > math.log(FAR) else SD
    count = max(steps for steps in table if steps <= n)
    lambdas = [-math.log(ratio) for ratio in table[count]]
    if lambdas[-2:-1] < [lowest] < lambdas[-1:]:
        lambdas[-1] = lowest  # those before it stay where they were fitted
    first, last = lambdas[0], min(lambdas[-1], lowest)
    if n > max(table):
        last += (lowest - last) * (1 - count / n)
    if first <= top:
        first = top + (last - top) / n
    places = linspace(0.0, len(lambdas) - 1.0, n - 1)
    return [levels.sigma_max, *(levels.sigma_of(_along(lambdas, place, first, last)) for place in places)]


def _along(lambdas: Sequence[float], place: float, first: float, last: float) -> float:
    """The value at a fractional place, when the values are stretched to run from `first` to `last`."""
    low = min(int(place), len(lambdas) - 2)
    if low < 0:
        return first
    value = lambdas[low] + (place - low) * (lambdas[low + 1] - lambdas[low])
    return first + (value - lambdas[0]) * (last - first) / (lambdas[-1] - lambdas[0])
