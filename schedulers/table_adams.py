"""Exponential multistep classes other than DPM-Solver's: DEIS, UniPC."""

from __future__ import annotations

from functools import partial

from ..core.errors import OptionError
from ..samplers.dpm_multistep import FEW
from .grid import Grid
from .grid_solver import solver_grid, unipc_grid
from .row import Config, Options, Row
from .space import Space
from .table_common import (
    BETAS,
    DYNAMIC,
    ENDS,
    FLOOR,
    FLOW,
    LINSPACE,
    PREDICTION,
    RESULT,
    SEQUENCES,
    SHIFTING,
    in_unit_or_flow,
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
        "algorithm_type": dict.fromkeys(
            ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"), "deis"
        ),
        "solver_type": dict.fromkeys(("midpoint", "heun", "bh1", "bh2"), "logrho"),
    },
    limits=("thresholding",),
)


def unipc_options(config: Config, grid: Grid, space: Space) -> Options:
    without = list(config.disable_corrector)
    if without != list(range(len(without))):
        raise OptionError(
            f"disable_corrector {without}", "UniPCMultistepScheduler", "the first steps: [0, 1, ...]"
        )
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
