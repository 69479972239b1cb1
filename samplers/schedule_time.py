"""Schedules even in training times, or that take entries of the model's own table of sigmas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..core.errors import OptionError
from .betas import linspace
from .levels import NoiseLevels
from .schedules import DISCRETE, distinct, schedule_rule
from .spec import Option

WEBUI = ("a1111", "forge")


def entries(places: Sequence[int], levels: NoiseLevels) -> list[float]:
    """The entries of the model's table at falling places, no two of them equal."""
    return [levels.sigmas[place] for place in distinct(places, len(levels.sigmas))]


def _spaced(count: int, levels: NoiseLevels, clock: Callable[[float], float]) -> list[float]:
    times = linspace(clock(levels.sigma_max), clock(levels.sigma_min), count)
    return [levels.sigma_at(time) for time in times]


@schedule_rule("normal", label="Normal", aliases=("uniform", "discrete"), hosts=(*WEBUI, "sd.cpp"))
def normal(n: int, levels: NoiseLevels) -> list[float]:
    """Evenly spaced training times from sigma_max to sigma_min."""
    return _spaced(n, levels, levels.time)


@schedule_rule("sgm_uniform", label="SGM Uniform", hosts=(*WEBUI, "sd.cpp"))
def sgm_uniform(n: int, levels: NoiseLevels) -> list[float]:
    """n + 1 evenly spaced training times without the last."""
    return _spaced(n + 1, levels, levels.time)[:-1]


@schedule_rule("normal@comfyui", label="Normal (ComfyUI)", aliases=("flow_match@diffusers",))
def normal_comfyui(n: int, levels: NoiseLevels) -> list[float]:
    """`normal`, but a shifted flow model's sigma_min is shifted twice; diffusers' flow-match Euler does so too."""
    return _spaced(n, levels, levels.timestep)


@schedule_rule("sgm_uniform@comfyui", label="SGM Uniform (ComfyUI)")
def sgm_uniform_comfyui(n: int, levels: NoiseLevels) -> list[float]:
    """`sgm_uniform`, but a shifted flow model's sigma_min is shifted twice."""
    return _spaced(n + 1, levels, levels.timestep)[:-1]


@schedule_rule("simple", label="Simple", hosts=("comfyui", *WEBUI, "sd.cpp"))
def simple(n: int, levels: NoiseLevels) -> list[float]:
    """Every (N / n)-th entry of the model's own table of N sigmas, from the top."""
    size = len(levels.sigmas)
    return entries([size - 1 - int(i * (size / n)) for i in range(n)], levels)


@schedule_rule("turbo", label="Turbo", hosts=("forge", "reforge"))
def turbo(n: int, levels: NoiseLevels) -> list[float]:
    """Timesteps i N / n - 1 rounded, i = n ... 1 (SD-Turbo, arXiv:2311.17042)."""
    size = len(levels.sigmas)
    return entries([round(i * (size / n) - 1) for i in range(n, 0, -1)], levels)


@schedule_rule(
    "sd_turbo",
    label="SD Turbo",
    aliases=("turbo@comfyui",),
    paper="arXiv:2311.17042",
    hosts=("comfyui",),
    needs=DISCRETE,
    most=10,
)
def sd_turbo(n: int, levels: NoiseLevels) -> list[float]:
    """The first n of timesteps 999, 899, ..., 99: with few steps it jumps to 0 from a high sigma."""
    if n > 10:
        raise OptionError(f"steps {n}", "schedule sd_turbo", "1 to 10", "turbo takes more")
    size = len(levels.sigmas)
    return entries([i * size // 10 - 1 for i in range(10, 10 - n, -1)], levels)


@schedule_rule(
    "lcm",
    label="LCM",
    aliases=("tcd",),
    paper="arXiv:2310.04378",
    options=(Option("original_steps", 50, 1, 1000, "steps the model was distilled on"),),
    hosts=("diffusers", "sd.cpp"),
    most=50,
)
def lcm(n: int, levels: NoiseLevels, original_steps: int) -> list[float]:
    """n of the original timesteps k s - 1, k = original_steps ... 1, s = N // original_steps, evenly taken."""
    size = len(levels.sigmas)
    if not n <= original_steps <= size:
        todo = f"set original_steps to {n} or more" if n <= size else None
        raise OptionError(f"steps {n}", "schedule lcm", f"1 to {original_steps} original steps", todo)
    stride = size // original_steps
    return entries([(original_steps - i * original_steps // n) * stride - 1 for i in range(n)], levels)


@schedule_rule("smoothstep", label="Smoothstep", hosts=("sd.cpp",))
def smoothstep(n: int, levels: NoiseLevels) -> list[float]:
    """Timesteps (3 u^2 - 2 u^3) (N - 1) rounded, u = 1 - i / n: denser at both ends."""
    top = len(levels.sigmas) - 1
    ramp = [1 - i / n for i in range(n)]
    return entries([math.floor(u * u * (3 - 2 * u) * top + 0.5) for u in ramp], levels)
