"""Classes that walk up, from a picture to the noise it would come from."""

from __future__ import annotations

from ..samplers.invert import inverse
from .grid_solver import inverse_solver_grid
from .grid_table import inverse_table_grid
from .row import Row
from .table_common import (
    BETAS,
    DYNAMIC,
    FLOW,
    LINSPACE,
    PREDICTION,
    RESULT,
    SEQUENCES,
    in_unit,
    in_unit_or_flow,
)
from .table_dpm import CHOICES, RENAMED, STEP, multistep_name, multistep_options

DDIM_INVERSE = Row(
    sampler=lambda config: inverse("ddim"),
    defaults={
        **BETAS,
        "clip_sample": True,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        **PREDICTION,
        "clip_sample_range": 1.0,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
    },
    grid=inverse_table_grid,
    space=in_unit,
    step=RESULT,
    alone=True,
    kin=False,
    limits=("clip_sample",),
    table=True,
)

MULTISTEP_INVERSE = Row(
    sampler=lambda config: inverse(multistep_name(config)),
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
        **FLOW,
        "lambda_min_clipped": -float("inf"),
        "variance_type": None,
        **LINSPACE,
    },
    grid=inverse_solver_grid,
    space=in_unit_or_flow,
    options=multistep_options,
    step=STEP,
    listed=False,
    pair=False,
    # a diffusion SDE has no way up that leads back down
    choices={"solver_type": CHOICES["solver_type"], "algorithm_type": ("dpmsolver", "dpmsolver++")},
    renamed=RENAMED,
    limits=("thresholding",),
)
