"""Places of rectified flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import OptionError
from ..samplers.betas import linspace
from .grid import Config, Grid, Steps
from .spacing import converted, shifted


def shift_of(config: Config, mu: float | None, shift: float) -> float:
    """The shift of a dynamic schedule: exp(mu), or mu itself where time_shift_type is linear."""
    dynamic = bool(config.get("use_dynamic_shifting"))
    if (mu is not None) != dynamic:
        what = "no mu= with use_dynamic_shifting" if mu is None else "mu= without use_dynamic_shifting"
        raise OptionError(what, "set_timesteps")
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
        places = linspace(1.0, low, steps or 0)
    else:
        if steps is not None and steps != len(given):
            raise OptionError(f"{steps} steps and a list of {len(given)}", "set_timesteps")
        places = [float(sigma) for sigma in sigmas] if sigmas is not None else [t / total for t in given]
    by = config.shift if shift is None else shift
    by = shift_of(config, mu, by)
    places = stretched_to(config.get("shift_terminal"), [shifted(place, by) for place in places])
    places = converted(config, places, len(places)) or places
    times = [place * total for place in places] if timesteps is None else [float(time) for time in timesteps]
    return Grid([*places, 0.0], times)


def full_flow_grid(config: Config, training: None) -> Grid:
    """Each timestep of training, shifted once; to 0."""
    total = config.num_train_timesteps
    shift = 1.0 if config.get("use_dynamic_shifting") else config.shift
    places = [shifted(i / total, shift) for i in range(total, 0, -1)]
    return Grid([*places, 0.0], [place * total for place in places])
