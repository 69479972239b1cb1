"""A walk as a pipeline of diffusers lays it out, with the scheduler class of the sampler."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import schedulers
from ..samplers import SCHEDULES, NoiseLevels, SamplerSpec
from ..samplers.levels import FlowLevels
from ..schedulers import spacing
from .course import Course
from .folder import read_json
from .like import Like
from .steps import USUAL_STEPS, whole_steps

if TYPE_CHECKING:
    from .model import Model, ModelInfo
    from .request import Request

Config = dict[str, Any]
MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
# sampler -> class and the entries of its config that make it that sampler
CLASSES: Mapping[str, tuple[str, Config]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": False}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {}),
    "dpmpp_2m": (MULTISTEP, {}),
    "dpmpp_3m": (MULTISTEP, {"solver_order": 3}),
    "dpmpp_2m_sde": (MULTISTEP, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_3m_sde": (MULTISTEP, {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "dpm_solver_2m": (MULTISTEP, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    "dpm_solver_3m": (
        MULTISTEP,
        {"algorithm_type": "dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"},
    ),
    "dpmpp_singlestep": (SINGLESTEP, {}),
    "dpm_solver_singlestep": (SINGLESTEP, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    "deis": ("DEISMultistepScheduler", {}),
    "uni_pc": ("UniPCMultistepScheduler", {"solver_type": "bh1"}),
    "uni_pc_bh2": ("UniPCMultistepScheduler", {"solver_type": "bh2"}),
    "sa_solver": ("SASolverScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
FLOW_CLASSES: Mapping[str, str] = {
    "euler": "FlowMatchEulerDiscreteScheduler",
    "heun": "FlowMatchHeunDiscreteScheduler",
}
SWITCHES: Mapping[str, Config] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta@a1111": {"use_beta_sigmas": True},
    "lambda_uniform": {"use_lu_lambdas": True},
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
}
# the scheduler configs that the families were published with
_SD: Config = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "clip_sample": False,
}
PUBLISHED: Mapping[str, Config] = {
    "sd1": _SD,
    "sd2": _SD,
    "sdxl": {**_SD, "timestep_spacing": "leading"},
    "sdxl-refiner": {**_SD, "timestep_spacing": "leading"},
}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def diffusers_course(
    like: Like, request: Request, spec: SamplerSpec, levels: NoiseLevels, model: Model
) -> Course | None:
    """The walk of a resolved request; None where diffusers has no class for the sampler, or none with the schedule."""
    request.steps = request.steps or USUAL_STEPS
    scheduler = _scheduler(request, spec, levels, model)
    if scheduler is None:
        return None
    scheduler.set_timesteps(whole_steps(request))
    plan, options = scheduler.laid
    space = plan.space
    begin = _begin(request.steps, request.strength) if request.image is not None else 0
    begin = whole_steps(request) - request.steps if request.second is not None else begin
    ratios = [min(space.ratio(sigma), levels.sigma_max) for sigma in plan.sigmas]
    known = {min(space.ratio(each.sigma), levels.sigma_max): each.time for each in plan.evaluations}
    unit = not space.scaled and not levels.is_flow
    walk = ratios[begin:]
    declared = {option.name for option in spec.options}
    options = {name: value for name, value in options.items() if name in declared}
    return Course(
        walk,
        _start(request, walk[0], 0.0 if unit else scheduler.init_noise_sigma, levels),
        levels if unit else space.levels,
        _told(known, levels),
        options | like.options_for(spec.name, request.options),
        finish=1 / math.hypot(walk[-1], 1.0) if unit else 1.0,
        span=_singles(scheduler, ratios),
        eager=scheduler.row.eager,
    )


def _singles(scheduler: Any, ratios: list[float]) -> list[float]:
    """`ratios` as diffusers rounds them: lines between the entries of its table, in single precision."""
    if not scheduler.row.brownian or any(scheduler.config.get(switch) for switch in spacing.SWITCHES):
        return ratios
    kept = _kept(scheduler)
    entries = (((1 - kept) / kept) ** 0.5).numpy()
    plan, _ = scheduler.laid
    return np.interp(plan.grid.times, np.arange(len(entries)), entries).astype(np.float32).tolist()


def _kept(scheduler: Any) -> Tensor:
    """alphas_cumprod, of betas whose roots are even in single precision."""
    config = scheduler.config
    if config["beta_schedule"] != "scaled_linear":
        return scheduler.alphas_cumprod
    ends = config["beta_start"] ** 0.5, config["beta_end"] ** 0.5
    betas = torch.linspace(*ends, config["num_train_timesteps"], dtype=torch.float32) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def _scheduler(request: Request, spec: SamplerSpec, levels: NoiseLevels, model: Model) -> Any:
    """The scheduler object, before `set_timesteps`."""
    if levels.is_flow:
        name = FLOW_CLASSES.get(spec.name)
        shift = levels.shift if isinstance(levels, FlowLevels) else 1.0
        return getattr(schedulers, name).from_config({"shift": shift}) if name else None
    if spec.name not in CLASSES or model.info.prediction not in PREDICTIONS:
        return None
    name, changes = CLASSES[spec.name]
    kind = getattr(schedulers, name)
    switch = _switch(request, kind)
    if switch is None:
        return None
    zero = {"rescale_betas_zero_snr": True} if model.info.zero_snr else {}
    own = {"prediction_type": PREDICTIONS[model.info.prediction], **zero}
    return kind.from_config({**published(model.source, model.info), **own, **changes, **switch})


def _switch(request: Request, kind: Any) -> Config | None:
    """What the schedule asked for is in the class's config; None where it has no such entry."""
    if request.schedule is None:
        return {}
    entries = SWITCHES.get(SCHEDULES[request.schedule].name)
    if SCHEDULES[request.schedule].name == "beta":
        entries = SWITCHES["beta@a1111"]
    if entries is None or request.schedule_options or not set(entries) <= set(kind.row.defaults):
        return None
    return entries


def published(source: str, info: ModelInfo) -> Config:
    """The scheduler's config of a diffusers folder, else what its family was published with."""
    path = Path(source) / "scheduler" / "scheduler_config.json"
    config = read_json(path) if path.is_file() else PUBLISHED[info.family]
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _begin(steps: int, strength: float) -> int:
    """The first step of a picture to be changed."""
    return max(steps - min(int(steps * strength), steps), 0)


def _start(request: Request, sigma: float, initial: float, levels: NoiseLevels) -> tuple[float, float]:
    """`initial` is what unit noise is multiplied by; 0: the latent is of unit variance."""
    if request.redraws:
        return levels.alpha(sigma), sigma
    return 0.0, initial or math.hypot(levels.alpha(sigma), sigma)


def _told(known: Mapping[float, float], levels: NoiseLevels) -> Callable[[float], float]:
    """The time of the evaluation at a sigma, or near to it by a rounding; of any other the model's own."""
    places: Sequence[float] = sorted(known)

    def told(sigma: float) -> float:
        at = bisect_left(places, sigma)
        for place in places[max(at - 1, 0) : at + 1]:
            if math.isclose(place, sigma, rel_tol=1e-6):
                return known[place]
        return levels.timestep(sigma)

    return told
