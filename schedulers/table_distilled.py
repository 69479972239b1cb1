"""Classes for models distilled to few steps."""

from __future__ import annotations

from functools import partial

from ..samplers.consistency import ConsistencyLevels
from .grid_sigma import consistency_grid
from .grid_table import distilled_grid
from .row import Config, Options, Row
from .space import Space
from .table_ancestral import CLIPPED
from .table_common import DYNAMIC, NARROW, NOISY, PREDICTION, in_unit

DISTILLED = {
    **NARROW,
    "beta_schedule": "scaled_linear",
    "original_inference_steps": 50,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    **PREDICTION,
    **DYNAMIC,
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "timestep_scaling": 10.0,
    "rescale_betas_zero_snr": False,
}
ARGUMENTS = {"original_inference_steps": None, "timesteps": None, "strength": 1.0}

TCD = Row(
    sampler="tcd",
    defaults=DISTILLED,
    # a model that maps along the trajectory is asked for timestep 0, not for the data
    grid=partial(distilled_grid, whole_table=True, to_data=False),
    space=in_unit,
    step={"eta": 0.3, **NOISY},
    passed={"eta": "gamma"},
    arguments=ARGUMENTS,
    alone=True,
    kin=False,
    table=True,
)

LCM = Row(
    sampler="lcm",
    defaults=DISTILLED,
    grid=distilled_grid,
    space=in_unit,
    options=lambda config, grid, space: {"timestep_scaling": config.timestep_scaling},
    step=NOISY,
    arguments=ARGUMENTS,
    alone=True,
    kin=False,
    limits=CLIPPED,
    table=True,
)


def at_boundary(config: Config, training: None) -> Space:
    levels = ConsistencyLevels(config.sigma_min, config.sigma_max, config.sigma_data)
    return Space(levels, scaled=True)


def scale(config: Config, grid: object, space: Space) -> Options:
    return {"s_noise": config.s_noise}


CONSISTENCY = Row(
    sampler="consistency",
    defaults={
        "num_train_timesteps": 40,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
        "s_noise": 1.0,
        "rho": 7.0,
        "clip_denoised": True,
    },
    grid=consistency_grid,
    space=at_boundary,
    options=scale,
    step=NOISY,
    arguments={"timesteps": None},
    alone=True,
    whole=False,
    kin=False,
    start=lambda config, largest: config.sigma_max,
    initial=lambda config, training: consistency_grid(config, training, config.num_train_timesteps),
    pair=False,
    limits=("clip_denoised",),
    predictions={"epsilon": "consistency"},
)
