"""Classes for rectified flow (arXiv:2209.03003)."""

from __future__ import annotations

from .grid_flow import flow_match_grid, full_flow_grid
from .row import Config, Row
from .space import Space, flow, inverted_flow
from .table_common import CHURN, NO_CHURN, NOISY, SEQUENCES


def in_flow(config: Config, training: None) -> Space:
    return (inverted_flow if config.get("invert_sigmas") else flow)(config.num_train_timesteps)


FLOW_EULER = Row(
    sampler=lambda config: "lcm" if config.stochastic_sampling else "euler",
    defaults={
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "invert_sigmas": False,
        "shift_terminal": None,
        **SEQUENCES,
        "time_shift_type": "exponential",
        "stochastic_sampling": False,
    },
    grid=flow_match_grid,
    space=in_flow,
    step={**CHURN, "generator": None, "per_token_timesteps": None, "return_dict": True},
    refused={**NO_CHURN, "per_token_timesteps": "every token is at one timestep here"},
    arguments={"sigmas": None, "mu": None, "timesteps": None},
    alone=True,
    whole=False,
    kin=False,
    initial=full_flow_grid,
    pair=False,
    choices={"time_shift_type": ("exponential", "linear")},
    prediction=lambda config: "inverted" if config.invert_sigmas else "flow_prediction",
    float_noise=True,
)

FLOW_HEUN = Row(
    sampler="heun",
    defaults={"num_train_timesteps": 1000, "shift": 1.0},
    grid=flow_match_grid,
    space=in_flow,
    step={**CHURN, **NOISY},
    refused=NO_CHURN,
    order=2,
    alone=True,
    whole=False,
    kin=False,
    initial=full_flow_grid,
    pair=False,
    prediction=lambda config: "flow_prediction",
)
