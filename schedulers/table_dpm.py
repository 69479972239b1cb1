"""DPM-Solver in its classes (arXiv:2206.00927, 2211.01095)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..samplers.dpm_multistep import FEW
from .grid import Grid
from .grid_solver import solver_grid
from .row import Config, Options, Row
from .space import Space
from .table_common import (
    BETAS,
    DYNAMIC,
    ENDS,
    FLOOR,
    FLOW,
    LINSPACE,
    NOISY,
    PREDICTION,
    SEQUENCES,
    SHIFTING,
    in_unit_or_flow,
)

OTHER_TYPES = {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"}
RENAMED = {"algorithm_type": {"deis": "dpmsolver++"}, "solver_type": OTHER_TYPES}
CHOICES: dict[str, tuple[Any, ...]] = {"solver_type": ("midpoint", "heun"), "final_sigmas_type": ENDS}
MULTISTEPS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")


def noise_share(config: Config) -> Options:
    """eta 1 for the SDE; the ODE's is left alone."""
    return {"eta": 1.0} if config.algorithm_type.startswith("sde") else {}


def multistep_name(config: Config) -> str:
    """In terms of denoised or of the noise, on the ODE or the SDE."""
    names = {"dpmsolver++": "dpmpp_3m", "sde-dpmsolver++": "dpmpp_3m_sde"}
    return names.get(config.algorithm_type, "dpm_solver_3m")


def multistep_options(config: Config, grid: Grid, space: Space) -> Options:
    """Whether a walk is short is asked of the whole of it, wherever a run begins."""
    few = grid.steps < FEW
    return {
        "solver_order": config.solver_order,
        "solver_type": config.solver_type,
        "lower_order_final": int(bool(config.lower_order_final and few)),
        "euler_at_final": int(bool(config.euler_at_final)),
        **noise_share(config),
    }


STEP = {"generator": None, "variance_noise": None, "return_dict": True}
DPM_MULTISTEP = Row(
    sampler=multistep_name,
    defaults={
        **BETAS,
        "solver_order": 2,
        **PREDICTION,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        **SEQUENCES,
        "use_lu_lambdas": False,
        **FLOW,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -float("inf"),
        "variance_type": None,
        **LINSPACE,
        "rescale_betas_zero_snr": False,
        **SHIFTING,
    },
    grid=partial(solver_grid, round_cosine=False),
    space=in_unit_or_flow,
    options=multistep_options,
    step=STEP,
    arguments={"mu": None, "timesteps": None},
    floor=FLOOR,
    pair=False,
    choices={**CHOICES, "algorithm_type": MULTISTEPS},
    renamed=RENAMED,
    limits=("thresholding",),
    float_noise=True,
)


def singlestep_name(config: Config) -> str:
    return "dpm_solver_singlestep" if config.algorithm_type == "dpmsolver" else "dpmpp_singlestep"


def singlestep_options(config: Config, grid: Grid, space: Space) -> Options:
    """A number of steps that is no multiple of the order needs lower orders at the end, whatever the config says."""
    uneven = grid.steps % config.solver_order != 0
    lower = config.lower_order_final or uneven or config.final_sigmas_type == "zero"
    return {
        "solver_order": config.solver_order,
        "solver_type": config.solver_type,
        "lower_order_final": int(bool(lower)),
        **noise_share(config),
    }


DPM_SINGLESTEP = Row(
    sampler=singlestep_name,
    defaults={
        **BETAS,
        "solver_order": 2,
        **PREDICTION,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": False,
        **SEQUENCES,
        **FLOW,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -float("inf"),
        "variance_type": None,
        **SHIFTING,
    },
    grid=solver_grid,
    space=in_unit_or_flow,
    options=singlestep_options,
    step=NOISY,
    arguments={"mu": None, "timesteps": None},
    pair=False,
    choices={**CHOICES, "algorithm_type": ("dpmsolver", "dpmsolver++", "sde-dpmsolver++")},
    renamed=RENAMED,
    limits=("thresholding",),
)
