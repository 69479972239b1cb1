"""Entries that configs of several classes share."""

from __future__ import annotations

from typing import Any

from .row import Config
from .space import Space, exploding, flow, unit
from .training import Training

# what stands for alphas_cumprod 0 of zero terminal SNR where the ratio has to be finite
FLOOR = 2.0**-24
BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
}
# the betas of classes that came from k-diffusion
NARROW = {**BETAS, "beta_start": 0.00085, "beta_end": 0.012}
SEQUENCES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
DYNAMIC = {"thresholding": False, "dynamic_thresholding_ratio": 0.995}
LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
SHIFTING = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
PREDICTION = {"prediction_type": "epsilon"}
ENDS = ("zero", "sigma_min")
FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0}
RESULT = {"return_dict": True}
NOISY = {"generator": None, "return_dict": True}
CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": float("inf"), "s_noise": 1.0}
NO_CHURN = {
    "s_churn": "churn is noise from before the evaluation, which a step comes after; "
    'use the sampler "euler" with s_churn (Pipeline, drive or Stepper)'
}


def in_sigma(config: Config, training: Training) -> Space:
    return exploding(training.table)


def in_unit(config: Config, training: Training) -> Space:
    return unit(training.table)


def in_unit_or_flow(config: Config, training: Training) -> Space:
    return flow(config.num_train_timesteps) if config.use_flow_sigmas else unit(training.table)
