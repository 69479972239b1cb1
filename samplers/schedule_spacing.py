"""diffusers' timestep spacings (table 2 of arXiv:2305.08891), and ddim_uniform, which is one of them."""

from __future__ import annotations

from collections.abc import Sequence

from .betas import linspace
from .levels import NoiseLevels
from .schedule_time import entries
from .schedules import schedule_rule
from .spec import Option

LIKE = Option(
    "like", "euler", choices=("euler", "ddim", "dpm"), help="whose rounding: Euler's, DDIM's, DPM-Solver's"
)


@schedule_rule("linspace", label="Linspace", paper="arXiv:2305.08891", options=(LIKE,), hosts=("diffusers",))
def spaced_linspace(n: int, levels: NoiseLevels, like: str) -> list[float]:
    """Even timesteps from the last to 0: as they are (sigma linear between entries), or rounded.

    `like` dpm rounds n + 1 of them and leaves out the 0.
    """
    top = len(levels.sigmas) - 1
    if like == "euler":
        return [_between(levels.sigmas, place) for place in linspace(top, 0.0, n)]
    count = n + 1 if like == "dpm" else n
    # i (top / n), not (i top) / n: a half way that is a hair below rounds down, as in numpy
    places = [top, *(round(i * (top / (count - 1))) for i in reversed(range(count - 1)))]
    return entries(places[:n], levels)


def _between(table: Sequence[float], place: float) -> float:
    low = min(int(place), len(table) - 2)
    return table[low] + (place - low) * (table[low + 1] - table[low])


@schedule_rule(
    "leading",
    label="Leading",
    paper="arXiv:2305.08891",
    options=(Option("steps_offset", 1, 0, 100, "the last timestep; 1 for Stable Diffusion"), LIKE),
    hosts=("diffusers",),
)
def leading(n: int, levels: NoiseLevels, steps_offset: int, like: str) -> list[float]:
    """Timesteps steps_offset + i s, i = 0 ... n - 1, s = N // n; `like` dpm i = 1 ... n, s = N // (n + 1)."""
    extra = int(like == "dpm")
    stride = len(levels.sigmas) // (n + extra)
    return entries([(i + extra) * stride + steps_offset for i in reversed(range(n))], levels)


@schedule_rule("trailing", label="Trailing", paper="arXiv:2305.08891", hosts=("diffusers",))
def trailing(n: int, levels: NoiseLevels) -> list[float]:
    """Timesteps N - i N / n - 1 rounded, i = 0 ... n - 1: the last timestep is the first step's."""
    size = len(levels.sigmas)
    step = (size - size / n) - size  # numpy's arange has it so, and half ways round by the last bit
    return entries([round(size + i * step) - 1 for i in range(n)], levels)


@schedule_rule("ddim_uniform", label="DDIM Uniform", aliases=("ddim",), paper="arXiv:2010.02502")
def ddim_uniform(n: int, levels: NoiseLevels) -> Sequence[float]:
    """Table entries 1, 1 + s, 1 + 2 s, ... with s = N // n, from the top; `leading` with steps_offset 1.

    Always n of them. ComfyUI and A1111 go on to the end of the table (`ddim_uniform@comfyui`).
    """
    return leading(n, levels, 1, "ddim")


@schedule_rule(
    "ddim_uniform@comfyui",
    label="DDIM Uniform (ComfyUI)",
    aliases=("ddim@a1111", "ddim@forge"),
    paper="arXiv:2010.02502",
    hosts=("comfyui", "a1111", "forge"),
    exact_steps=False,
)
def ddim_uniform_comfyui(n: int, levels: NoiseLevels) -> list[float]:
    """Table entries 1, 1 + s, ... to the end of the table, from the top: often n + 1 steps, or more."""
    return [*levels.sigmas[1 :: max(len(levels.sigmas) // n, 1)]][::-1]
