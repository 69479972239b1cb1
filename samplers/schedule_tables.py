"""Schedules that others optimised and published as tables, and how a table serves another number of steps."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import OptionError
from . import gits_table
from .betas import linspace
from .levels import DiscreteLevels, NoiseLevels
from .schedule_numbers import AYS_32, AYS_SIGMAS, AYS_SVD, AYS_TIMES, GITS_FORGE, OPTIMAL_STEPS
from .schedules import DISCRETE, FLOW, Need, schedule_rule
from .spec import Option

AYS = "arXiv:2404.14507"
SVD = "EDM levels to sigma 700 (SVD)"
IMAGE_TABLE = Option("table", "sd1", choices=("sd1", "sdxl"), help="the family it was made for")


def stretched(table: Sequence[float], count: int) -> list[float]:
    """`count` numbers along `table`, log-linear between its entries, both ends kept (one: the first)."""
    found = []
    for place in linspace(0.0, len(table) - 1, count):
        low = min(int(place), len(table) - 2)
        # written so that an entry itself has no rounding
        found.append(table[low] ** (low + 1 - place) * table[low + 1] ** (place - low))
    return found


def at_levels(timesteps: Sequence[float], levels: NoiseLevels) -> list[float]:
    """The model's sigmas at timesteps of 0 to 999, whatever the length of its own table."""
    return [levels.sigma(time * (len(levels.sigmas) - 1) / 999) for time in timesteps]


def _has_table(levels: NoiseLevels) -> bool:
    return isinstance(levels, DiscreteLevels) or (not levels.is_flow and levels.sigma_max >= 699.0)


@schedule_rule(
    "align_your_steps",
    label="Align Your Steps",
    aliases=("ays",),
    paper=AYS,
    options=(
        Option("table", "auto", choices=("auto", "sd1", "sdxl", "svd"), help="the family it was made for"),
    ),
    hosts=("comfyui", "sd.cpp", "diffusers"),
    needs=Need(f"a model of discrete timesteps (SD, SDXL) or of {SVD}", _has_table),
    own_range=True,
)
def align_your_steps(n: int, levels: NoiseLevels, table: str) -> list[float]:
    """The table of the family stretched to n + 1 sigmas, the last of them 0: as its authors and ComfyUI do.

    auto is SVD's on EDM levels, else SD1's (the pipeline knows SDXL). SD's and SDXL's are timesteps: a model of
    zero terminal SNR starts at its own sigma_max, with its authors' and ComfyUI's sigmas at 14.61.
    """
    discrete = isinstance(levels, DiscreteLevels)
    if table == "svd" or (table == "auto" and not discrete):
        return stretched(AYS_SVD, n + 1)[:-1]
    if not discrete:
        raise OptionError(f"option table={table!r}", "schedule align_your_steps", f"svd for {SVD}")
    return stretched(at_levels(AYS_TIMES["sd1" if table == "auto" else table], levels), n + 1)[:-1]


@schedule_rule(
    "align_your_steps@a1111",
    label="Align Your Steps (A1111)",
    aliases=("align_your_steps_11",),
    paper=AYS,
    options=(IMAGE_TABLE,),
    hosts=("a1111", "forge"),
    needs=DISCRETE,
    own_range=True,
)
def align_your_steps_a1111(n: int, levels: NoiseLevels, table: str) -> list[float]:
    """The table in three digits, stretched to n sigmas down to 0.029, then 0."""
    return stretched(AYS_SIGMAS[table], n)


@schedule_rule(
    "align_your_steps_32",
    label="Align Your Steps 32",
    paper=AYS,
    options=(IMAGE_TABLE,),
    hosts=("forge",),
    needs=DISCRETE,
    own_range=True,
)
def align_your_steps_32(n: int, levels: NoiseLevels, table: str) -> list[float]:
    """Forge's tables of 32 sigmas, stretched to n sigmas down to 0.015, then 0."""
    return stretched(AYS_32[table], n)


@schedule_rule(
    "gits",
    label="GITS",
    paper="arXiv:2405.11326",
    options=(Option("coeff", 1.2, 0.8, 1.5, "0.80 to 1.50 by 0.05; larger: more steps at small sigmas"),),
    hosts=("comfyui", "sd.cpp"),
    needs=DISCRETE,
)
def gits(n: int, levels: NoiseLevels, coeff: float) -> list[float]:
    """The table of Stable Diffusion for the coefficient (the nearest there is) and for 2 to 20 steps.

    More steps stretch the row of 20, one step is sigma_max to 0; the last sigma of a row becomes 0.
    """
    steps = min(max(n, gits_table.STEPS[0]), gits_table.STEPS[-1])
    numbers = gits_table.row(round(coeff * 20) / 20, steps)
    found = at_levels([number * 999 / gits_table.GRID for number in numbers], levels)
    return (found if steps == n else stretched(found, n + 1))[:-1]


@schedule_rule(
    "gits@forge",
    label="Align Your Steps GITS",
    aliases=("align_your_steps_gits",),
    paper="arXiv:2405.11326",
    options=(IMAGE_TABLE,),
    hosts=("forge",),
    needs=DISCRETE,
    own_range=True,
)
def gits_forge(n: int, levels: NoiseLevels, table: str) -> list[float]:
    """One row of 11 sigmas in three digits for each family, stretched to n sigmas down to 0.029, then 0."""
    return stretched(GITS_FORGE[table], n)


@schedule_rule(
    "optimal_steps",
    label="OptimalSteps",
    paper="arXiv:2503.21774",
    options=(Option("table", "flux", choices=tuple(OPTIMAL_STEPS), help="the model it was made for"),),
    hosts=("comfyui",),
    needs=FLOW,
    own_range=True,
)
def optimal_steps(n: int, levels: NoiseLevels, table: str) -> list[float]:
    """The table stretched to n + 1 sigmas, the last of them 0. Flux's and Chroma's begin a little below 1."""
    return stretched(OPTIMAL_STEPS[table], n + 1)[:-1]
