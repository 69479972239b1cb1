"""Classes that step between whole timesteps of training: DDIM, DDPM, PNDM."""

from __future__ import annotations

from functools import partial

from .grid import Grid
from .grid_table import every_timestep, ipndm_grid, table_grid
from .row import Config, Options, Row
from .space import Space, stretched
from .table_common import (
    BETAS,
    DYNAMIC,
    LEADING,
    NOISY,
    PREDICTION,
    RESULT,
    in_unit,
)
from .training import Training

VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range")
CLIPPED = ("thresholding", "clip_sample")

DDIM = Row(
    sampler="ddim",
    defaults={
        **BETAS,
        "clip_sample": True,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        **PREDICTION,
        **DYNAMIC,
        "clip_sample_range": 1.0,
        "sample_max_value": 1.0,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
    },
    grid=table_grid,
    space=in_unit,
    step={
        "eta": 0.0,
        "use_clipped_model_output": False,
        "generator": None,
        "variance_noise": None,
        "return_dict": True,
    },
    passed={"eta": "eta"},
    alone=True,
    limits=CLIPPED,
    loose=True,
    table=True,
)


def variance(config: Config, grid: Grid, space: Space) -> Options:
    """A predicted variance multiplies the noise of the smallest."""
    kind = config.variance_type
    return {"variance_type": kind if kind.startswith("fixed") else "fixed_small"}


DDPM = Row(
    sampler="ddpm",
    defaults={
        **BETAS,
        "variance_type": "fixed_small",
        "clip_sample": True,
        **PREDICTION,
        **DYNAMIC,
        "clip_sample_range": 1.0,
        "sample_max_value": 1.0,
        **LEADING,
        "rescale_betas_zero_snr": False,
    },
    grid=table_grid,
    space=in_unit,
    options=variance,
    step=NOISY,
    arguments={"timesteps": None},
    alone=True,
    initial=every_timestep,
    choices={"variance_type": VARIANCES},
    limits=CLIPPED,
    learned=True,
    table=True,
)


def in_stretched(config: Config, training: Training) -> Space:
    return stretched(training.table)


MULTISTEP_END = {"final": "multistep"}

PNDM = Row(
    sampler=lambda config: "plms" if config.skip_prk_steps else "pndm",
    defaults={**BETAS, "skip_prk_steps": False, "set_alpha_to_one": False, **PREDICTION, **LEADING},
    grid=table_grid,
    space=in_stretched,
    options=lambda config, grid, space: MULTISTEP_END,
    step=RESULT,
    pair=False,
    choices={"prediction_type": ("epsilon", "v_prediction")},
    table=True,
    resume=("ipndm", MULTISTEP_END),
)

IPNDM = Row(
    sampler="ipndm",
    defaults={"num_train_timesteps": 1000, "trained_betas": None},
    grid=ipndm_grid,
    # any table does: the network's timestep is the grid's
    space=lambda config, training: stretched((0.5, 0.25)),
    options=lambda config, grid, space: MULTISTEP_END,
    step=RESULT,
    whole=False,
    kin=False,
    initial=partial(ipndm_grid, steps=1000),
    pair=False,
    prediction=lambda config: "v_prediction",
)
