"""Places that are timesteps of training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import OptionError
from ..samplers.betas import linspace
from .grid import Config, Grid, Steps, at_most, falling, only_one
from .spacing import spaced
from .training import Training

# what stands for alpha where a run begins with noise alone and its ratio has to be finite


START = 2.0**-12


def every_timestep(config: Config, training: Training) -> Grid:
    """Each timestep of training, from the last to 0; then to the end of `table_grid`."""
    times = [*map(float, reversed(range(len(training.ratios))))]
    return Grid([*training.ratios[::-1], table_end(config, training)], times)


def table_grid(
    config: Config, training: Training, steps: Steps = None, timesteps: Sequence[float] | None = None
) -> Grid:
    """Whole timesteps; then to alpha 1, or to that of timestep 0 where set_alpha_to_one is false."""
    only_one(num_inference_steps=steps, timesteps=timesteps)
    total = config.num_train_timesteps
    times = spaced(config, at_most(steps, total)) if steps is not None else falling(timesteps or (), total)
    return Grid([*map(training.ratio, times), table_end(config, training)], times)


def table_end(config: Config, training: Training) -> float:
    return 0.0 if config.get("set_alpha_to_one", True) else training.ratios[0]


def inverse_table_grid(config: Config, training: Training, steps: Steps = None) -> Grid:
    """The timesteps of `table_grid` upwards, each the end of its step."""
    if config.timestep_spacing == "linspace":
        raise OptionError("timestep_spacing 'linspace'", "DDIMInverseScheduler", "leading or trailing")
    grid = table_grid(config, training, steps)
    return Grid(grid.ratios[::-1], [-1.0, *grid.times[::-1]])


def distilled_grid(
    config: Config,
    training: Training,
    steps: Steps = None,
    original_inference_steps: int | None = None,
    timesteps: Sequence[float] | None = None,
    strength: float = 1.0,
    whole_table: bool = False,
    to_data: bool = True,
) -> Grid:
    """Evenly chosen timesteps of those the model was distilled at, k N / original - 1; of them the lower `strength`.

    Args:
        whole_table: original_inference_steps given as an argument means every timestep of training.
        to_data: the run ends at sigma 0; else at timestep 0.
    """
    only_one(num_inference_steps=steps, timesteps=timesteps)
    total, end = config.num_train_timesteps, 0.0 if to_data else training.ratios[0]
    if timesteps is not None:
        times = falling(timesteps, total)
        kept = min(int(len(times) * strength), len(times))
        times = times[len(times) - kept :]
        return Grid([*map(training.ratio, times), end], times)
    original = original_inference_steps or config.original_inference_steps
    if whole_table and original_inference_steps is not None:
        known = list(range(int(total * strength)))
    else:
        stride = total // at_most(original, total)
        known = [k * stride - 1 for k in range(1, int(original * strength) + 1)]
    if not 1 <= (steps or 0) <= len(known):
        raise OptionError(
            f"{steps} steps of {len(known)} that the model was distilled at",
            "set_timesteps",
            todo="use fewer steps, more strength or more original_inference_steps",
        )
    chosen = [int(i * len(known) / (steps or 1)) for i in range(steps or 0)]
    times = [float(known[-1 - index]) for index in chosen]
    return Grid([*map(training.ratio, times), end], times)


def ipndm_grid(config: Config, training: None, steps: Steps = None) -> Grid:
    """sigma = sin^2(pi u / 2), u from 1 to 0, of unit variance; the timestep is its angle as a share of a right one."""
    places = linspace(1.0, 0.0, (steps or 0) + 1)
    sigmas = [math.sin(u * math.pi / 2) ** 2 for u in places]
    if config.trained_betas is not None:
        sigmas = [float(beta) for beta in config.trained_betas]
    alphas = [math.sqrt(1.0 - sigma**2) for sigma in sigmas]
    pairs = list(zip(sigmas, alphas, strict=True))
    # at the very start there is noise alone: a ratio that is finite, and large enough to be told from none
    ratios = [sigma / max(alpha, START) for sigma, alpha in pairs]
    return Grid(ratios, [math.atan2(sigma, alpha) / math.pi * 2 for sigma, alpha in pairs[:-1]])
