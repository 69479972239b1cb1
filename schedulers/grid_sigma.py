"""Places of the classes whose sample is x0 + sigma noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .grid import Config, Grid, Steps, at_most, end_of, falling, no_switch, only_one
from .grid_table import every_timestep
from .spacing import converted, exponential, karras, spaced
from .training import Training


def every_sigma(config: Config, training: Training) -> Grid:
    """Each timestep of training, from the last to 0; to sigma 0."""
    return continuous(config, every_timestep(config, training))


def sigma_grid(
    config: Config,
    training: Training,
    steps: Steps = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    num_train_timesteps: int | None = None,
    rounded: bool = False,
) -> Grid:
    """Timesteps with fractions, and sigmas of k-diffusion's kind; to 0.

    Args:
        rounded: timesteps of Karras' sigmas are rounded.
    """
    only_one(num_inference_steps=steps, timesteps=timesteps, sigmas=sigmas)
    if sigmas is not None:
        ratios = [float(sigma) for sigma in sigmas]
        return continuous(config, Grid(ratios, [training.timestep(ratio) for ratio in ratios[:-1]]))
    if timesteps is not None:
        no_switch(config, "timesteps")
        times = [float(time) for time in timesteps]
    else:
        times = spaced(config, steps or 0, whole=False)
    return continuous(config, _sigma_places(config, training, times, rounded))


def _sigma_places(config: Config, training: Training, times: list[float], rounded: bool) -> Grid:
    end = 0.0 if config.get("final_sigmas_type", "zero") == "zero" else end_of(config, training)
    if config.get("interpolation_type") == "log_linear":
        # one more than there are timesteps: such a run ends at the smallest ratio
        return Grid(exponential(training.ratios[-1], training.ratios[0], len(times) + 1), times)
    ratios = [training.ratio(time) for time in times]
    replaced = converted(config, ratios, len(times))
    if replaced is None:
        return Grid([*ratios, end], times)
    times = [training.timestep(ratio) for ratio in replaced]
    if rounded and config.use_karras_sigmas:
        times = [float(round(time)) for time in times]
    return Grid([*replaced, end], times)


def continuous(config: Config, grid: Grid) -> Grid:
    """The same; told log(sigma) / 4 where timestep_type is continuous and the network predicts v, as EDM's are."""
    if config.get("timestep_type") != "continuous" or config.prediction_type != "v_prediction":
        return grid
    return Grid(grid.ratios, [math.log(ratio) / 4 for ratio in grid.ratios[:-1]])


def edm_grid(
    config: Config, training: None, steps: Steps = None, sigmas: Sequence[float] | None = None
) -> Grid:
    """Karras' or an exponential sequence; timestep log(sigma) / 4 (arXiv:2206.00364).

    Args:
        sigmas: where on Karras' ramp from 0 to 1 to be, instead of evenly.
    """
    high, low = config.sigma_max, config.sigma_min
    if sigmas is not None:
        root = [value ** (1 / config.rho) for value in (high, low)]
        ratios = [(root[0] + float(u) * (root[1] - root[0])) ** config.rho for u in sigmas]
    else:
        ratios = karras(high, low, steps or 0, config.rho)
    if config.sigma_schedule == "exponential":
        ratios = exponential(high, low, len(ratios))
    end = 0.0 if config.final_sigmas_type == "zero" else ratios[-1]
    return Grid([*ratios, end], [math.log(ratio) / 4 for ratio in ratios])


def consistency_grid(
    config: Config, training: None, steps: Steps = None, timesteps: Sequence[float] | None = None
) -> Grid:
    """Every (N // steps)-th place of training's Karras sequence from sigma_max, or the places given; to sigma_min."""
    only_one(num_inference_steps=steps, timesteps=timesteps)
    total, rho = config.num_train_timesteps, config.rho
    if timesteps is None:
        stride = total // at_most(steps or 0, total)
        timesteps = [i * stride for i in reversed(range(steps or 0))]
    root = [value ** (1 / rho) for value in (config.sigma_max, config.sigma_min)]
    ramp = [time / (total - 1) for time in reversed(falling(timesteps, total))]
    ratios = [(root[0] + u * (root[1] - root[0])) ** rho for u in ramp]
    return Grid([*ratios, config.sigma_min], [250 * math.log(ratio) for ratio in ratios])
