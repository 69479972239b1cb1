"""Exponential multistep and singlestep classes: DPM-Solver, DEIS, UniPC, SA-Solver."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..core.errors import OptionError
from ..samplers.dpm_multistep import FEW
from .grid import Grid, solver_grid, unipc_grid
from .row import Config, Options, Row
from .space import Space, flow, unit
from .table_common import (
    BETAS,
    DYNAMIC,
    FLOOR,
    LINSPACE,
    NOISY,
    PREDICTION,
    RESULT,
    SEQUENCES,
    SHIFTING,
)
from .table_edm import CHOICES as EDM_CHOICES
from .table_edm import LEVELS, PREDICTIONS, first, in_edm
from .grid import edm_grid
from .training import Training

ENDS = ("zero", "sigma_min")
FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0}
OTHER_TYPES = {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"}
RENAMED = {"algorithm_type": {"deis": "dpmsolver++"}, "solver_type": OTHER_TYPES}
CHOICES: dict[str, tuple[Any, ...]] = {"solver_type": ("midpoint", "heun"), "final_sigmas_type": ENDS}
MULTISTEPS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")


def in_unit_or_flow(config: Config, training: Training) -> Space:
    return flow(config.num_train_timesteps) if config.use_flow_sigmas else unit(training.table)


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

EDM_MULTISTEP = Row(
    sampler=multistep_name,
    defaults={
        **LEVELS,
        "solver_order": 2,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "final_sigmas_type": "zero",
    },
    grid=edm_grid,
    space=in_edm,
    options=multistep_options,
    step=NOISY,
    whole=False,
    kin=False,
    start=first,
    initial=lambda config, training: edm_grid(config, training, config.num_train_timesteps),
    pair=False,
    choices={**CHOICES, **EDM_CHOICES, "algorithm_type": ("dpmsolver++", "sde-dpmsolver++")},
    renamed=RENAMED,
    limits=("thresholding",),
    predictions=PREDICTIONS,
)


def lower_where_few(config: Config, grid: Grid) -> str:
    return "always" if config.lower_order_final and grid.steps < FEW else "never"


DEIS = Row(
    sampler="deis",
    defaults={
        **BETAS,
        "solver_order": 2,
        **PREDICTION,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "algorithm_type": "deis",
        "solver_type": "logrho",
        "lower_order_final": True,
        **SEQUENCES,
        **FLOW,
        **LINSPACE,
        **SHIFTING,
    },
    grid=partial(solver_grid, sequence_end=True),
    space=in_unit_or_flow,
    options=lambda config, grid, space: {
        "max_order": config.solver_order,
        "deis_mode": "logrho",
        "lower_order_final": lower_where_few(config, grid),
    },
    step=RESULT,
    arguments={"mu": None},
    pair=False,
    choices={"algorithm_type": ("deis",), "solver_type": ("logrho",)},
    renamed={
        "algorithm_type": dict.fromkeys(("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"), "deis"),
        "solver_type": dict.fromkeys(("midpoint", "heun", "bh1", "bh2"), "logrho"),
    },
    limits=("thresholding",),
)


def unipc_options(config: Config, grid: Grid, space: Space) -> Options:
    without = list(config.disable_corrector)
    if without != list(range(len(without))):
        raise OptionError(f"disable_corrector {without}", "UniPCMultistepScheduler", "the first steps: [0, 1, ...]")
    if config.solver_p is not None:
        raise OptionError("solver_p", "UniPCMultistepScheduler", "None: the predictor is UniPC's own")
    return {
        "order": config.solver_order,
        "predict": "x0" if config.predict_x0 else "eps",
        "disable_corrector": len(without),
        "lower_order_final": "always" if config.lower_order_final else "never",
    }


UNIPC = Row(
    sampler=lambda config: "uni_pc" if config.solver_type == "bh1" else "uni_pc_bh2",
    defaults={
        **BETAS,
        "solver_order": 2,
        **PREDICTION,
        **DYNAMIC,
        "sample_max_value": 1.0,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        **SEQUENCES,
        **FLOW,
        **LINSPACE,
        "final_sigmas_type": "zero",
        "rescale_betas_zero_snr": False,
        **SHIFTING,
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
    },
    grid=unipc_grid,
    space=in_unit_or_flow,
    options=unipc_options,
    step=RESULT,
    arguments={"sigmas": None, "mu": None},
    floor=FLOOR,
    pair=False,
    choices={"solver_type": ("bh1", "bh2"), "final_sigmas_type": ENDS},
    renamed={"solver_type": dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")},
    limits=("thresholding",),
)
