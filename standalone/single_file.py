"""What a folder's scheduler_config.json would say of a single file."""

from __future__ import annotations

from typing import Any

from ..core.errors import OptionError
from .model import ModelInfo

# of every Stable Diffusion model of discrete timesteps
TRAINED = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def scheduler_of(info: ModelInfo) -> Any:
    """A scheduler for what the file was found to be: DDIM, EDM Euler, or Euler on a rectified flow.

    OptionError for a kind of prediction that no scheduler class takes.
    """
    from .. import schedulers

    if info.prediction == "flow":
        return schedulers.FlowMatchEulerDiscreteScheduler(shift=info.shift or 1.0)
    if info.prediction == "edm":
        return schedulers.EDMEulerScheduler(
            sigma_min=info.sigma_min or 0.002, sigma_max=info.sigma_max or 80.0
        )
    if info.prediction not in PREDICTIONS or info.sigma_max is not None:
        raise OptionError(f"a model of {info.prediction} on EDM's levels", todo="give scheduler=")
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if info.zero_snr else {}
    return schedulers.DDIMScheduler(**TRAINED, **zero, prediction_type=PREDICTIONS[info.prediction])
