"""The places a run visits: n ratios and their timesteps, and the ratio it ends at.

Each rule is `rule(config, training, steps, **given) -> Grid`; `given` are the further arguments of set_timesteps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..core.errors import OptionError
from ..samplers.betas import linspace
from .spacing import SWITCHES, converted, exponential, karras, shifted, spaced
from .training import Training

Config = Any  # a FrozenDict: entries are attributes
Steps = int | None


class Grid(NamedTuple):
    """n + 1 ratios, of which the last is the end, and the timesteps of the places that are evaluated."""

    ratios: list[float]
    times: list[float]

    @property
    def steps(self) -> int:
        return len(self.ratios) - 1


Rule = Callable[..., Grid]


def only_one(**given: Any) -> None:
    """OptionError unless exactly one is there."""
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        what = " and ".join(there) or f"none of {', '.join(given)}"
        raise OptionError(what, "set_timesteps", expected="exactly one of " + ", ".join(given))


def _no_switch(config: Config, name: str) -> None:
    for switch in SWITCHES[:4]:
        if config.get(switch):
            raise OptionError(f"{name}= with {switch}", "set_timesteps", todo=f"from_config(config, {switch}=False)")


def _falling(times: Sequence[float], total: int) -> list[float]:
    values = [float(time) for time in times]
    if not values or values[0] >= total or any(b >= a for a, b in pairwise(values)) or values[-1] < 0:
        raise OptionError("timesteps", "set_timesteps", expected=f"falling numbers below {total}")
    return values


def _at_most(steps: int, total: int) -> int:
    if not 1 <= steps <= total:
        raise OptionError(f"{steps} steps", "set_timesteps", expected=f"1 to {total}, the timesteps of training")
    return steps


def end_of(config: Config, training: Training) -> float:
    """Where `final_sigmas_type` ends a run; a class without that entry ends at the smallest ratio."""
    kind = config.get("final_sigmas_type", "sigma_min")
    if kind not in ("zero", "sigma_min"):
        raise OptionError(f"final_sigmas_type {kind!r}", expected="zero or sigma_min")
    return 0.0 if kind == "zero" else training.ratios[0]


def table_grid(config: Config, training: Training, steps: Steps = None, timesteps: Sequence[float] | None = None) -> Grid:
    """Whole timesteps; then to alpha 1, or to that of timestep 0 where set_alpha_to_one is false."""
    only_one(num_inference_steps=steps, timesteps=timesteps)
    total = config.num_train_timesteps
    if timesteps is not None:
        times = _falling(timesteps, total)
    else:
        times = spaced(config, _at_most(steps or 0, total))
    return Grid([*map(training.ratio, times), table_end(config, training)], times)


def table_end(config: Config, training: Training) -> float:
    return 0.0 if config.get("set_alpha_to_one", True) else training.ratios[0]


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
        return Grid(ratios, [training.timestep(ratio) for ratio in ratios[:-1]])
    if timesteps is not None:
        _no_switch(config, "timesteps")
        times = [float(time) for time in timesteps]
    else:
        times = spaced(config, steps or 0, whole=False)
    end = 0.0 if config.get("final_sigmas_type", "zero") == "zero" else end_of(config, training)
    if config.get("interpolation_type", "linear") == "log_linear":
        return Grid(exponential(training.ratios[-1], training.ratios[0], len(times) + 1), times)
    ratios = [training.ratio(time) for time in times]
    if replaced := converted(config, ratios, len(times)):
        ratios, times = replaced, [training.timestep(ratio) for ratio in replaced]
        times = [float(round(time)) for time in times] if rounded and config.use_karras_sigmas else times
    return Grid([*ratios, end], times)


def _used(config: Config, training: Training) -> int:
    """How many timesteps have a log-SNR of at least lambda_min_clipped."""
    low = config.get("lambda_min_clipped", -math.inf)
    return sum(-math.log(ratio) >= low for ratio in training.ratios) if low > -math.inf else len(training.ratios)


def inverse_table_grid(config: Config, training: Training, steps: Steps = None) -> Grid:
    """The timesteps of `table_grid` upwards, each the end of its step."""
    if config.timestep_spacing == "linspace":
        raise OptionError("timestep_spacing 'linspace'", "DDIMInverseScheduler", "leading or trailing")
    grid = table_grid(config, training, steps)
    return Grid(grid.ratios[::-1], [-1.0, *grid.times[::-1]])


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
    if config.use_flow_sigmas:
        ratios = [1.0 - alpha for alpha in linspace(1.0, 1 / config.num_train_timesteps, (steps or 0) + 1)]
        return _flow(config, training, ratios[:0:-1], mu, sequence_end)
    if timesteps is not None:
        _no_switch(config, "timesteps")
        times = [float(int(time)) for time in timesteps]
    else:
        times = spaced(config, steps or 0, beyond=1, last=_used(config, training))
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
        raise OptionError("use_flow_sigmas", "DPMSolverMultistepInverseScheduler", todo="use the flow classes")
    ratios = converted(config, training.ratios, count)
    if ratios is not None:
        times = [training.timestep(ratio) for ratio in ratios]
        times = [float(round(time)) if config.use_karras_sigmas else float(int(time)) for time in times]
        return Grid([*ratios, ratios[-1]], times)
    used = _used(config, training)
    times = spaced(config, count, beyond=config.timestep_spacing != "trailing", last=used)[::-1]
    # the n lowest of n + 1, where a run down has the n highest
    if config.timestep_spacing == "linspace":
        times = [float(round(time)) for time in linspace(0.0, used - 1.0, count + 1)[:-1]]
    elif config.timestep_spacing == "leading":
        times = [time - times[0] + config.steps_offset for time in times]
    return Grid([*map(training.ratio, times), training.ratios[used - 1]], times)


def _end(config: Config, training: Training, ratios: Sequence[float], in_sequence: bool) -> float:
    end = end_of(config, training)
    return ratios[-1] if end > 0.0 and in_sequence else end


def _flow(config: Config, training: Training, sigmas: Sequence[float], mu: float | None, in_sequence: bool) -> Grid:
    """`sigmas` of rectified flow, shifted by the config's flow_shift or by mu."""
    shift = shift_of(config, mu, config.flow_shift)
    ratios = [shifted(sigma, shift) for sigma in sigmas]
    times = [float(int(sigma * config.num_train_timesteps)) for sigma in ratios]
    return Grid([*ratios, _end(config, training, ratios, in_sequence)], times)


def shift_of(config: Config, mu: float | None, shift: float) -> float:
    """The shift of a dynamic schedule: exp(mu), or mu itself where time_shift_type is linear."""
    if (mu is not None) != bool(config.use_dynamic_shifting):
        what = "no mu= with use_dynamic_shifting" if mu is None else "mu= without use_dynamic_shifting"
        raise OptionError(what, "set_timesteps")
    if mu is None:
        return shift
    return mu if config.time_shift_type == "linear" else math.exp(mu)


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
    return Grid([*places, _end(config, training, places, True)], [float(int(place * total)) for place in places])


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
    by = shift_of(config, mu, by) if "use_dynamic_shifting" in config else by
    places = stretched_to(config.get("shift_terminal"), [shifted(place, by) for place in places])
    places = converted(config, places, len(places)) or places
    times = [place * total for place in places] if timesteps is None else [float(time) for time in timesteps]
    return Grid([*places, 0.0], times)


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
    """Karras' sequence of training at every (N // steps)-th place from sigma_max, or at the places given; to sigma_min."""
    only_one(num_inference_steps=steps, timesteps=timesteps)
    total, rho = config.num_train_timesteps, config.rho
    if timesteps is None:
        stride = total // _at_most(steps or 0, total)
        timesteps = [i * stride for i in reversed(range(steps or 0))]
    root = [value ** (1 / rho) for value in (config.sigma_max, config.sigma_min)]
    ramp = [time / (total - 1) for time in reversed(_falling(timesteps, total))]
    ratios = [(root[0] + u * (root[1] - root[0])) ** rho for u in ramp]
    return Grid([*ratios, config.sigma_min], [250 * math.log(ratio) for ratio in ratios])


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


START = 2.0**-12


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
        times = _falling(timesteps, total)
        kept = min(int(len(times) * strength), len(times))
        times = times[len(times) - kept :]
        return Grid([*map(training.ratio, times), end], times)
    original = original_inference_steps or config.original_inference_steps
    if whole_table and original_inference_steps is not None:
        known = list(range(int(total * strength)))
    else:
        stride = total // _at_most(original, total)
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


def full_flow_grid(config: Config, training: None) -> Grid:
    """Each timestep of training, shifted once; to 0."""
    total = config.num_train_timesteps
    shift = 1.0 if config.get("use_dynamic_shifting") else config.shift
    places = [shifted(i / total, shift) for i in range(total, 0, -1)]
    return Grid([*places, 0.0], [place * total for place in places])
