"""Classes from k-diffusion, whose sample is x0 + sigma noise."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .grid_sigma import every_sigma, sigma_grid
from .row import Row, spaced
from .table_common import (
    BETAS,
    CHURN,
    FLOOR,
    LINSPACE,
    NARROW,
    NO_CHURN,
    NOISY,
    PREDICTION,
    RESULT,
    SEQUENCES,
    in_sigma,
)

BOTH = {"num_train_timesteps": None}

LMS = Row(
    sampler="lms",
    defaults={**BETAS, **SEQUENCES, **PREDICTION, **LINSPACE},
    grid=sigma_grid,
    space=in_sigma,
    step={"order": 4, "return_dict": True},
    passed={"order": "order"},
    whole=False,
    start=spaced,
    initial=every_sigma,
)

EULER = Row(
    sampler="euler",
    defaults={
        **BETAS,
        **PREDICTION,
        "interpolation_type": "linear",
        **SEQUENCES,
        "sigma_min": None,
        "sigma_max": None,
        "timestep_spacing": "linspace",
        "timestep_type": "discrete",
        "steps_offset": 0,
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
    },
    grid=sigma_grid,
    space=in_sigma,
    step={**CHURN, **NOISY},
    refused=NO_CHURN,
    arguments={"timesteps": None, "sigmas": None},
    alone=True,
    whole=False,
    floor=FLOOR,
    start=spaced,
    initial=every_sigma,
    choices={
        "interpolation_type": ("linear", "log_linear"),
        "timestep_type": ("discrete", "continuous"),
        "final_sigmas_type": ("zero", "sigma_min"),
    },
)

EULER_ANCESTRAL = Row(
    sampler="euler_ancestral",
    defaults={**BETAS, **PREDICTION, **LINSPACE, "rescale_betas_zero_snr": False},
    grid=sigma_grid,
    space=in_sigma,
    step=NOISY,
    alone=True,
    whole=False,
    floor=FLOOR,
    start=spaced,
    initial=every_sigma,
)

HEUN = Row(
    sampler="heun",
    defaults={
        **NARROW,
        **PREDICTION,
        **SEQUENCES,
        "clip_sample": False,
        "clip_sample_range": 1.0,
        **LINSPACE,
    },
    grid=sigma_grid,
    space=in_sigma,
    step=RESULT,
    arguments={**BOTH, "timesteps": None},
    order=2,
    alone=True,
    whole=False,
    start=spaced,
    initial=every_sigma,
    limits=("clip_sample",),
)

KDPM2 = Row(
    sampler="dpm_2",
    defaults={**NARROW, **SEQUENCES, **PREDICTION, **LINSPACE},
    grid=partial(sigma_grid, rounded=True),
    space=in_sigma,
    step=RESULT,
    arguments=BOTH,
    order=2,
    alone=True,
    whole=False,
    inner=True,
    start=spaced,
    initial=every_sigma,
)

KDPM2_ANCESTRAL = replace(KDPM2, sampler="dpm_2_ancestral", step=NOISY)

DPM_SDE = Row(
    sampler="dpmpp_sde",
    defaults={**NARROW, **PREDICTION, **SEQUENCES, "noise_sampler_seed": None, **LINSPACE},
    grid=sigma_grid,
    space=in_sigma,
    step={"return_dict": True, "s_noise": 1.0},
    passed={"s_noise": "s_noise"},
    arguments=BOTH,
    order=2,
    alone=True,
    whole=False,
    inner=True,
    start=spaced,
    initial=every_sigma,
    brownian=True,
)
