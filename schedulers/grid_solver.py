"""Places of DPM-Solver and its kin: whole timesteps short of 0, sequences of sigmas, rectified flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import OptionError
from ..samplers.betas import linspace
from .grid import Config, Grid, Steps, end_of, no_switch, only_one
from .grid_flow import shift_of, stretched_to
from .spacing import converted, shifted, spaced
from .training import Training


def used(config: Config, training: Training) -> int:
    """How many timesteps have a log-SNR of at least lambda_min_clipped."""
    low = config.get("lambda_min_clipped", -math.inf)
    return (
        sum(-math.log(ratio) >= low for ratio in training.ratios) if low > -math.inf else len(training.ratios)
    )


def solver_grid(
    config: Config,
    training: Training,
    steps: Steps = None,
    timesteps: Sequence[float] | None = None,
    mu: float | None = None,
    sequence_end: bool = False,
    round_cosine: bool = True,
) -> Grid:
    """Whole timesteps that stop short of 0, or one of the sequences in their place.

    Args:
        sequence_end: a sequence that does not go to 0 ends where it is, its last step of no length.
        round_cosine: Karras' timesteps are rounded on the cosine schedule too; what is not whole is cut off.
    """
    only_one(num_inference_steps=steps, timesteps=timesteps)
    shift_of(config, mu, 1.0, needed=False)
    if config.use_flow_sigmas:
        ratios = [1.0 - alpha for alpha in linspace(1.0, 1 / config.num_train_timesteps, (steps or 0) + 1)]
        return _flow(config, training, ratios[:0:-1], mu, sequence_end)
    if timesteps is not None:
        no_switch(config, "timesteps")
        times = [float(int(time)) for time in timesteps]
    else:
        times = spaced(config, steps or 0, beyond=1, last=used(config, training))
    ratios = converted(config, training.ratios[::-1], len(times))
    if ratios is None:
        return Grid([*map(training.ratio, times), end_of(config, training)], times)
    times = [training.timestep(ratio) for ratio in ratios]
    cosine = config.beta_schedule == "squaredcos_cap_v2"
    if (config.use_karras_sigmas or config.get("use_lu_lambdas")) and (round_cosine or not cosine):
        times = [round(time) for time in times]
    return Grid([*ratios, _end(config, training, ratios, sequence_end)], [float(int(time)) for time in times])


def inverse_solver_grid(config: Config, training: Training, steps: Steps = None) -> Grid:
    """Whole timesteps from 0 up, short of the last; or a sequence from the smallest ratio up, of n - 1 steps."""
    count = steps or 0
    if config.use_flow_sigmas:
        raise OptionError(
            "use_flow_sigmas", "DPMSolverMultistepInverseScheduler", todo="use the flow classes"
        )
    ratios = converted(config, training.ratios, count)
    if ratios is not None:
        times = [training.timestep(ratio) for ratio in ratios]
        times = [float(round(time)) if config.use_karras_sigmas else float(int(time)) for time in times]
        return Grid([*ratios, ratios[-1]], times)
    total = used(config, training)
    times = spaced(config, count, beyond=config.timestep_spacing != "trailing", last=total)[::-1]
    # the n lowest of n + 1, where a run down has the n highest
    if config.timestep_spacing == "linspace":
        times = [float(round(time)) for time in linspace(0.0, total - 1.0, count + 1)[:-1]]
    elif config.timestep_spacing == "leading":
        times = [time - times[0] + config.steps_offset for time in times]
    return Grid([*map(training.ratio, times), training.ratios[total - 1]], times)


def unipc_grid(
    config: Config,
    training: Training,
    steps: Steps = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
) -> Grid:
    """As solver_grid, whose sequence UniPC ends in itself; on rectified flow from just below sigma 1."""
    only_one(num_inference_steps=steps, sigmas=sigmas)
    if not config.use_flow_sigmas:
        if sigmas is not None:
            raise OptionError("sigmas= without use_flow_sigmas", "set_timesteps")
        return solver_grid(config, training, steps, sequence_end=True)
    total = config.num_train_timesteps
    if config.use_karras_sigmas:
        ratios = converted(config, training.ratios[::-1], steps or 0) or []
        places = [ratio / (ratio + 1) for ratio in ratios]
    else:
        even = linspace(1.0, 1 / total, (steps or 0) + 1)[:-1] if sigmas is None else list(sigmas)
        shift = shift_of(config, mu, config.flow_shift)
        places = stretched_to(config.shift_terminal, [shifted(sigma, shift) for sigma in even])
        # at sigma 1 itself log-SNR is infinite
        places[0] = min(places[0], 1 - 1e-6)
    return Grid(
        [*places, _end(config, training, places, True)], [float(int(place * total)) for place in places]
    )


def _end(config: Config, training: Training, ratios: Sequence[float], in_sequence: bool) -> float:
    end = end_of(config, training)
    return ratios[-1] if end > 0.0 and in_sequence else end


def _flow(
    config: Config, training: Training, sigmas: Sequence[float], mu: float | None, in_sequence: bool
) -> Grid:
    """`sigmas` of rectified flow, shifted by the config's flow_shift or by mu."""
    shift = shift_of(config, mu, config.flow_shift, needed=False)
    ratios = [shifted(sigma, shift) for sigma in sigmas]
    times = [float(int(sigma * config.num_train_timesteps)) for sigma in ratios]
    return Grid([*ratios, _end(config, training, ratios, in_sequence)], times)
