"""Places of rectified flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import OptionError
from ..samplers.betas import linspace
from .grid import Config, Grid, Steps
from .spacing import converted, shifted


def shift_of(config: Config, mu: float | None, shift: float, needed: bool = True) -> float:
    """`shift`, or that of a dynamic schedule: exp(mu), or mu itself where time_shift_type is linear.

    Raises OptionError for mu without use_dynamic_shifting, and without mu where that is `needed`.
    """
    dynamic = bool(config.get("use_dynamic_shifting"))
    if mu is not None and not dynamic:
        raise OptionError("mu= without use_dynamic_shifting", "set_timesteps")
    if mu is None and dynamic and needed:
        raise OptionError("no mu= with use_dynamic_shifting", "set_timesteps")
    if mu is None:
        return shift
    return mu if config.time_shift_type == "linear" else math.exp(mu)


def stretched_to(terminal: float | None, sigmas: list[float]) -> list[float]:
    """`sigmas` with 1 - sigma scaled so that the last is `terminal`."""
    if not terminal:
        return sigmas
    scale = (1 - terminal) / (1 - sigmas[-1])
    return [1 - (1 - sigma) * scale for sigma in sigmas]


def flow_match_grid(
    config: Config,
    training: None,
    steps: Steps = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
    timesteps: Sequence[float] | None = None,
    shift: float | None = None,
) -> Grid:
    """Even steps from the first shifted sigma of training to the last, shifted again; to 0.

    That the range is shifted and then its steps too is how these models are run.

    Args:
        shift: of the steps, instead of the config's.
    """
    total, dynamic = config.num_train_timesteps, config.get("use_dynamic_shifting", False)
    given = sigmas if sigmas is not None else timesteps
    if given is None:
        low = 1 / total if dynamic else shifted(1 / total, config.shift)
        if steps is None:
            raise OptionError("none of num_inference_steps, sigmas, timesteps", "set_timesteps")
        places = linspace(1.0, low, steps)
    else:
        if steps is not None and steps != len(given):
            raise OptionError(f"{steps} steps and a list of {len(given)}", "set_timesteps")
        places = [float(sigma) for sigma in sigmas] if sigmas is not None else [t / total for t in given]
    by = config.shift if shift is None else shift
    by = shift_of(config, mu, by)
    places = stretched_to(config.get("shift_terminal"), [shifted(place, by) for place in places])
    places = converted(config, places, len(places)) or places
    end = 0.0
    if config.get("invert_sigmas"):
        places, end, timesteps = [1.0 - place for place in places], 1.0, None
    times = [place * total for place in places] if timesteps is None else [float(time) for time in timesteps]
    return Grid([*places, end], times)


def full_flow_grid(config: Config, training: None) -> Grid:
    """Each timestep of training, shifted once; to 0."""
    total = config.num_train_timesteps
    shift = 1.0 if config.get("use_dynamic_shifting") else config.shift
    places = [shifted(i / total, shift) for i in range(total, 0, -1)]
    if config.get("invert_sigmas"):
        return Grid([*(1.0 - place for place in places), 1.0], [total - place * total for place in places])
    return Grid([*places, 0.0], [place * total for place in places])
