"""Classes for EDM models (arXiv:2206.00364): any sigma, data of deviation sigma_data."""

from __future__ import annotations

import math

from ..samplers.levels import EDMLevels
from .grid_sigma import edm_grid
from .row import Config, Row
from .space import Space
from .table_common import CHURN, DYNAMIC, NO_CHURN, NOISY, PREDICTION
from .table_dpm import CHOICES as DPM_CHOICES
from .table_dpm import RENAMED, multistep_name, multistep_options

LEVELS = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,
    **PREDICTION,
    "rho": 7.0,
}
CHOICES = {"sigma_schedule": ("karras", "exponential"), "final_sigmas_type": ("zero", "sigma_min")}
# what these models call noise is EDM's own output
PREDICTIONS = {"epsilon": "edm"}


def in_edm(config: Config, training: None) -> Space:
    return Space(EDMLevels(config.sigma_min, config.sigma_max, config.sigma_data), scaled=True)


def first(config: Config, largest: object) -> float:
    return math.hypot(config.sigma_max, 1.0)


EDM_EULER = Row(
    sampler="euler",
    defaults={**LEVELS, "final_sigmas_type": "zero"},
    grid=edm_grid,
    space=in_edm,
    step={**CHURN, **NOISY, "pred_original_sample": None},
    refused=NO_CHURN,
    arguments={"sigmas": None},
    alone=True,
    whole=False,
    kin=False,
    listed=True,
    start=first,
    initial=lambda config, training: edm_grid(config, training, config.num_train_timesteps),
    choices=CHOICES,
    predictions=PREDICTIONS,
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
    choices={**DPM_CHOICES, **CHOICES, "algorithm_type": ("dpmsolver++", "sde-dpmsolver++")},
    renamed=RENAMED,
    limits=("thresholding",),
    predictions=PREDICTIONS,
)
