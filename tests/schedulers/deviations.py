"""Where diffusers' numbers are not to be had, and why; test_theory.py shows of each what is right."""

from __future__ import annotations

from typing import Any

STRIDE = "its step leads to t - N // n, though the next evaluation is told the next of the timesteps"
MIXED_V = "it adds up v of several timesteps, which are no predictions of one thing; eps are"
MIXED_UP = "it reads what the network says of timestep t by alpha and sigma of the timestep below"
SIGN = "the second difference of its SDE step of order 3 has the wrong sign: -1/2 where +1/2 belongs"
UNWRITTEN = "its SDE step of order 3 is not written: UnboundLocalError"
INFINITE = "0 * inf: the last step of a predictor of order 2 and more, or by bh1 or noise, to sigma 0 is NaN"
NO_LENGTH = "0 / 0: a step of order 2 and more between equal sigmas is NaN"
NEGATIVE = "the root of a logarithm, which is below 0: NaN"
LAST_NOISE = "it adds noise on the last step too, unless that is at timestep 0"
NO_SIGNAL = "at alpha 0 it divides 0 by 1e-8, and so loses what the network says of x0"
TWICE = "it leaves out timesteps that come twice, but not their sigmas"
FEW_DIGITS = "its weights are differences of float32 numbers that are nearly the same"


def why(name: str, config: dict[str, Any], steps: int) -> str | None:
    """Why a trajectory of this class differs from ours; None where it does not."""
    rule = RULES.get(name.removesuffix("Scheduler"))
    return rule(config, steps) if rule else None


def _strides(config: dict[str, Any], steps: int) -> bool:
    spacing = config.get("timestep_spacing", "leading")
    return (spacing == "linspace" and steps > 1) or (spacing == "trailing" and 1000 % steps != 0)


def _ddim(config: dict[str, Any], steps: int) -> str | None:
    return STRIDE if _strides(config, steps) else None


def _pndm(config: dict[str, Any], steps: int) -> str | None:
    if config.get("prediction_type") == "v_prediction":
        return MIXED_V
    return _ddim(config, steps)


def _ddim_inverse(config: dict[str, Any], steps: int) -> str | None:
    return MIXED_UP if config.get("prediction_type", "epsilon") != "epsilon" else _ddim(config, steps)


def _ddpm(config: dict[str, Any], steps: int) -> str | None:
    kind = config.get("variance_type", "fixed_small")
    if kind == "fixed_large_log":
        return NEGATIVE
    to_zero = config.get("timestep_spacing", "leading") == "trailing" or config.get("steps_offset")
    return LAST_NOISE if kind == "fixed_large" and to_zero else None


def _multistep(config: dict[str, Any], steps: int) -> str | None:
    kind, order = config.get("algorithm_type", "dpmsolver++"), config.get("solver_order", 2)
    if order == 3 and steps > 3:
        return {"sde-dpmsolver++": SIGN, "sde-dpmsolver": UNWRITTEN}.get(kind)
    return None


def _singlestep(config: dict[str, Any], steps: int) -> str | None:
    sde = config.get("algorithm_type") == "sde-dpmsolver++" and config.get("solver_type") == "heun"
    return SIGN if sde and config.get("solver_order", 2) == 3 else None


def _edm_multistep(config: dict[str, Any], steps: int) -> str | None:
    if config.get("solver_order", 2) == 3 and config.get("algorithm_type", "").startswith("sde"):
        return UNWRITTEN
    still = config.get("final_sigmas_type") == "sigma_min" and steps >= 15
    return NO_LENGTH if still and config.get("solver_order", 2) == 3 else None


def _unipc(config: dict[str, Any], steps: int) -> str | None:
    infinite = (
        config.get("solver_type") == "bh1"
        or not config.get("predict_x0", True)
        or not config.get("lower_order_final", True)
    )
    return INFINITE if infinite and config.get("final_sigmas_type", "zero") == "zero" else None


def _multistep_inverse(config: dict[str, Any], steps: int) -> str | None:
    if config.get("use_exponential_sigmas") and steps >= 20:
        return TWICE
    still = config.get("timestep_spacing") == "trailing" and config.get("solver_order", 2) == 3
    return NO_LENGTH if still and steps >= 15 else None


def _deis(config: dict[str, Any], steps: int) -> str | None:
    crowded = config.get("use_beta_sigmas") or config.get("flow_shift", 1.0) > 1.0
    return FEW_DIGITS if crowded and (steps, config.get("solver_order", 2)) in ((20, 3), (4, 2)) else None


RULES = {
    "DDIM": _ddim,
    "PNDM": _pndm,
    "DDIMInverse": _ddim_inverse,
    "DDPM": _ddpm,
    "DPMSolverMultistep": _multistep,
    "DPMSolverSinglestep": _singlestep,
    "EDMDPMSolverMultistep": _edm_multistep,
    "UniPCMultistep": _unipc,
    "DPMSolverMultistepInverse": _multistep_inverse,
    "DEISMultistep": _deis,
    "IPNDM": lambda config, steps: NO_SIGNAL,
}
