"""Whole trajectories equal diffusers', over all classes, spacings, predictions, numbers of steps and switches."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from sigmagraft import schedulers

from .deviations import why
from .peers import CLASSES, SD, Pair, apart, walk

# numpy's, of how diffusers calls it
pytestmark = pytest.mark.filterwarnings("ignore")
SPACINGS = ("linspace", "leading", "trailing")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
STEPS = (4, 7, 20)
# classes that do not know x0 prediction at diffusers
NO_SAMPLE = set(
    [
        "PNDM",
        "EulerAncestralDiscrete",
        "KDPM2Discrete",
        "KDPM2AncestralDiscrete",
        "DPMSolverSDE",
        "EDMEuler",
        "EDMDPMSolverMultistep",
    ]
)
SINGLE = {"skip_prk_steps": True, "clip_sample": False}


def configs(name: str) -> list[dict[str, Any]]:
    """The class's config with every spacing and prediction it knows."""
    row, short = getattr(schedulers, name).row, name.removesuffix("Scheduler")
    base = {key: value for key, value in {**SD, **SINGLE}.items() if key in row.defaults}
    spacings = SPACINGS if "timestep_spacing" in row.defaults else (None,)
    if short in ("TCD", "LCM"):  # they do not heed it
        spacings = (None,)
    if short == "DDIMInverse":
        spacings = SPACINGS[1:]
    predictions = (
        PREDICTIONS[: 2 if short in NO_SAMPLE else 3] if "prediction_type" in row.defaults else (None,)
    )
    varied = [{"timestep_spacing": s, "prediction_type": p} for s, p in product(spacings, predictions)]
    return [{**base, **{key: value for key, value in each.items() if value is not None}} for each in varied]


def same_places(pair: Pair, slack: float) -> None:
    """Equal timesteps, and sigmas where they mean the same."""
    theirs, ours = pair.theirs, pair.ours
    torch.testing.assert_close(
        ours.timesteps.double(), theirs.timesteps.double(), rtol=1e-4, atol=max(slack, 2e-3)
    )
    if hasattr(theirs, "sigmas") and not pair.name.startswith(("KDPM2", "DPMSolverSDE")):
        torch.testing.assert_close(
            ours.sigmas.double(), theirs.sigmas.double()[: len(ours.sigmas)], rtol=1e-4, atol=1e-6
        )


def compare(pair: Pair, steps: int, slack: float = 0.0) -> None:
    reason = why(pair.name, pair.config, steps)
    ours = walk(pair, pair.ours)
    assert all(sample.isfinite().all() for sample in ours)
    if reason is None:
        same_places(pair, slack)
        assert apart(ours, walk(pair, pair.theirs)) < 1e-4
        return
    try:
        theirs = walk(pair, pair.theirs)
    except (UnboundLocalError, IndexError):
        return
    assert apart(ours, theirs) > 1e-4, f"no longer so: {reason}"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CLASSES)
def test_spacings_and_predictions(name: str, steps: int) -> None:
    for config in configs(name):
        compare(Pair(name, config, steps), steps)


KARRAS, EXPONENTIAL, BETA = ({f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta"))
SEQUENCES = [KARRAS, EXPONENTIAL, BETA]
TO_MIN = {"final_sigmas_type": "sigma_min"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
SOLVERS = [
    {"algorithm_type": kind, "solver_order": order, "solver_type": rule, **end}
    for kind, end in {
        "dpmsolver++": {},
        "sde-dpmsolver++": {},
        "dpmsolver": TO_MIN,
        "sde-dpmsolver": TO_MIN,
    }.items()
    for order, rule in product((1, 2, 3), ("midpoint", "heun"))
]
SINGLESTEPS = [
    {**solver, "lower_order_final": lower}
    for solver in SOLVERS
    if solver["algorithm_type"] != "sde-dpmsolver"
    for lower in (True, False)
]
UNIPC = [
    {"solver_order": order, "solver_type": rule, "predict_x0": x0, **end}
    for order, rule, x0, end in product((1, 2, 3), ("bh1", "bh2"), (True, False), ({}, TO_MIN))
]
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "DDIM": [
        {"clip_sample": True, "clip_sample_range": 1.2},
        {"clip_sample": True, "set_alpha_to_one": False},
        {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.8},
        {**ZERO_SNR, "clip_sample": False},
        {"trained_betas": [0.0001 + i * 1e-5 for i in range(1000)]},
    ],
    "DDPM": [
        *(
            {"variance_type": f"fixed_{kind}", "clip_sample": False}
            for kind in ("small_log", "large", "large_log")
        ),
        {"variance_type": "fixed_large", "timestep_spacing": "trailing"},
        {"clip_sample": True},
        {"thresholding": True, "sample_max_value": 2.0},
        {**ZERO_SNR, "clip_sample": False},
        *({"beta_schedule": kind} for kind in ("linear", "squaredcos_cap_v2", "sigmoid", "laplace")),
    ],
    "PNDM": [
        {"skip_prk_steps": False},
        {"skip_prk_steps": False, "steps_offset": 1},
        {"skip_prk_steps": True, "set_alpha_to_one": True},
    ],
    "LMSDiscrete": [*SEQUENCES, {"beta_schedule": "linear"}],
    "EulerDiscrete": [
        *SEQUENCES,
        {**KARRAS, "sigma_min": 0.1, "sigma_max": 10.0},
        {"interpolation_type": "log_linear"},
        TO_MIN,
        ZERO_SNR,
        {**KARRAS, "timestep_type": "continuous", "prediction_type": "v_prediction"},
    ],
    "EulerAncestralDiscrete": [ZERO_SNR, {"timestep_spacing": "leading", "steps_offset": 1}],
    "HeunDiscrete": [*SEQUENCES, {"clip_sample": True}, {"beta_schedule": "exp"}],
    "KDPM2Discrete": SEQUENCES,
    "KDPM2AncestralDiscrete": SEQUENCES,
    "DPMSolverSDE": SEQUENCES,
    "DPMSolverMultistep": [
        *SOLVERS,
        *({**sequence, **end} for sequence in (*SEQUENCES, {"use_lu_lambdas": True}) for end in ({}, TO_MIN)),
        {"euler_at_final": True},
        {"lower_order_final": False, "timestep_spacing": "leading", "steps_offset": 1},
        {"lambda_min_clipped": -5.1, "timestep_spacing": "trailing"},
        {**KARRAS, "beta_schedule": "squaredcos_cap_v2"},
        {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.8},
        ZERO_SNR,
        FLOW,
        {**FLOW, "flow_shift": 3.0, "solver_order": 3},
    ],
    "DPMSolverSinglestep": [
        *SINGLESTEPS,
        *({**sequence, **end} for sequence in SEQUENCES for end in ({}, TO_MIN)),
        {"lambda_min_clipped": -5.1},
        {**FLOW, "flow_shift": 3.0},
    ],
    "DEISMultistep": [
        *({"solver_order": order} for order in (1, 3)),
        *({**sequence, "solver_order": order} for sequence in SEQUENCES for order in (2, 3)),
        {"lower_order_final": False},
        FLOW,
    ],
    "UniPCMultistep": [
        *UNIPC,
        *({**sequence, **end} for sequence in SEQUENCES for end in ({}, TO_MIN)),
        {"disable_corrector": [0, 1]},
        {"lower_order_final": False},
        {"lower_order_final": False, **TO_MIN},
        {**KARRAS, "sigma_min": 0.1, "sigma_max": 10.0},
        ZERO_SNR,
        FLOW,
        {**FLOW, "flow_shift": 3.0, "shift_terminal": 0.1},
        {**FLOW, **KARRAS},
    ],
    "SASolver": [
        *({"predictor_order": p, "corrector_order": c} for p, c in product((1, 2, 3), (1, 2, 3, 4))),
        *SEQUENCES,
        {"lower_order_final": False},
        *({"tau_func": tau} for tau in (lambda t: 1.0, lambda t: 0.0, lambda t: 0.5 if t < 500 else 0)),
        {**FLOW, "flow_shift": 3.0},
    ],
    "TCD": [{"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}],
    "LCM": [
        {"clip_sample": True},
        {"thresholding": True},
        {"timestep_scaling": 0.05},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    ],
    "CMStochasticIterative": [{"clip_denoised": False}, {"s_noise": 0.7}, {"sigma_max": 60.0, "rho": 5.0}],
    "EDMEuler": [{"sigma_schedule": "exponential"}, TO_MIN, {"sigma_min": 0.01, "sigma_max": 50.0}],
    "EDMDPMSolverMultistep": [
        *(
            {**solver, "sigma_schedule": kind}
            for solver in SOLVERS[:12]
            for kind in ("karras", "exponential")
        ),
        {**TO_MIN, "solver_order": 3},
        {"euler_at_final": True, "thresholding": True},
    ],
    "FlowMatchEulerDiscrete": [
        {"shift": 3.0},
        {"shift": 3.0, "invert_sigmas": True},
        *SEQUENCES,
        {"shift_terminal": 0.1},
        {"stochastic_sampling": True},
    ],
    "FlowMatchHeunDiscrete": [{"shift": 3.0}],
    "DDIMInverse": [{"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}],
    "DPMSolverMultistepInverse": [
        *(solver for solver in SOLVERS if not solver["algorithm_type"].startswith("sde")),
        *SEQUENCES,
        {"timestep_spacing": "trailing", "solver_order": 3},
        {"lambda_min_clipped": -5.1},
    ],
}


def slack_of(config: dict[str, Any]) -> float:
    """diffusers cuts timesteps such as 998.99999 off to whole ones, so that one told 999 is told 998."""
    cut = config.get("use_exponential_sigmas") or config.get("use_beta_sigmas")
    cosine = config.get("use_karras_sigmas") and config.get("beta_schedule") == "squaredcos_cap_v2"
    return 1.0 if cut or cosine else 0.0


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("steps", [5, 20])
def test_switches(name: str, steps: int) -> None:
    known = getattr(schedulers, f"{name}Scheduler").row.defaults
    for switch in SWITCHES[name]:
        config = {**{key: SD[key] for key in SD if key in known}, **switch}
        if name.endswith("Inverse"):
            config.pop("final_sigmas_type", None)
        compare(Pair(f"{name}Scheduler", config, steps), steps, slack_of(config))


STEP_ARGUMENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *(
        ("DDIM", {}, {"eta": eta, "use_clipped_model_output": use})
        for eta in (0.4, 1.0)
        for use in (False, True)
    ),
    *(("LMSDiscrete", {}, {"order": order}) for order in (1, 2, 3)),
    *(("TCD", {}, {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
    ("DPMSolverSDE", {}, {"s_noise": 0.6}),
]


@pytest.mark.parametrize(("name", "config", "step"), STEP_ARGUMENTS)
def test_arguments_of_step(name: str, config: dict[str, Any], step: dict[str, Any]) -> None:
    pair = Pair(f"{name}Scheduler", {**SD, **config}, 10, step=step)
    assert apart(walk(pair, pair.ours), walk(pair, pair.theirs)) < 1e-4


LAID_OUT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("DDPM", {}, {"timesteps": [900, 500, 300, 20]}),
    ("EulerDiscrete", {}, {"timesteps": [900, 500, 300, 20]}),
    ("EulerDiscrete", {}, {"sigmas": [10.0, 3.0, 1.0, 0.2, 0.0]}),
    ("HeunDiscrete", {}, {"timesteps": [900, 500, 300, 20]}),
    ("DPMSolverMultistep", {}, {"timesteps": [900, 500, 300, 20]}),
    ("DPMSolverSinglestep", {}, {"timesteps": [900, 500, 300, 20]}),
    ("LCM", {}, {"timesteps": [999, 700, 300, 19]}),
    ("TCD", {}, {"timesteps": [999, 700, 300, 19]}),
    ("TCD", {}, {"num_inference_steps": 4, "original_inference_steps": 50}),
    ("LCM", {}, {"num_inference_steps": 4, "original_inference_steps": 100, "strength": 0.8}),
    ("UniPCMultistep", FLOW, {"sigmas": np.array([0.9, 0.6, 0.3])}),
    ("UniPCMultistep", {**FLOW, "use_dynamic_shifting": True}, {"num_inference_steps": 6, "mu": 0.8}),
    ("FlowMatchEulerDiscrete", {}, {"sigmas": [1.0, 0.8, 0.3]}),
    ("FlowMatchEulerDiscrete", {"shift": 2.0}, {"timesteps": [1000.0, 700.0, 200.0]}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, {"num_inference_steps": 6, "mu": 0.8}),
    (
        "FlowMatchEulerDiscrete",
        {"use_dynamic_shifting": True, "time_shift_type": "linear"},
        {"num_inference_steps": 6, "mu": 1.8},
    ),
    ("EDMEuler", {}, {"sigmas": torch.linspace(0, 1, 5)}),
    ("CMStochasticIterative", {}, {"timesteps": [39, 22, 10, 0]}),
]


@pytest.mark.parametrize(("name", "config", "laid"), LAID_OUT)
def test_arguments_of_set_timesteps(name: str, config: dict[str, Any], laid: dict[str, Any]) -> None:
    known = getattr(schedulers, f"{name}Scheduler").row.defaults
    laid = dict(laid)
    pair = Pair(
        f"{name}Scheduler",
        {**{k: SD[k] for k in SD if k in known}, **config},
        laid.pop("num_inference_steps", None),
        laid=laid,
    )
    same_places(pair, 0.0)
    assert apart(walk(pair, pair.ours), walk(pair, pair.theirs)) < 1e-4
