"""Every deterministic sampler of diffusers and of k-diffusion, with every schedule it offers, as functions alike.

A peer takes noise of unit variance and walks from sigma_max to 0 in n of its steps, on a denoiser that counts its
calls. It is told the exact sigma of each evaluation, where with a network diffusers would round it to a whole timestep.
Samplers that can add noise are run without (eta or tau 0): all solve the same ODE.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import diffusers
import torch
from torch import Tensor

from sigmagraft.samplers import NoiseLevels, installed, schedule

Denoise = Callable[[Tensor, float], Tensor]
Walk = Callable[[Denoise, Tensor, int], Tensor]
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
EXACT = {"final_sigmas_type": "zero"}
SPACINGS = ("linspace", "leading", "trailing")
BENT = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# class -> (its own settings, schedule settings beyond the spacings, whether x is scaled to variance preserving)
CLASSES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], bool]] = {
    "DDIM": ([{"set_alpha_to_one": True, "clip_sample": False}], (), True),
    "PNDM": ([{"set_alpha_to_one": True, "skip_prk_steps": skip} for skip in (True, False)], (), True),
    "LMSDiscrete": ([{}], BENT, False),
    "EulerDiscrete": ([{}], BENT, False),
    "HeunDiscrete": ([{}], BENT, False),
    "KDPM2Discrete": ([{}], BENT, False),
    "DPMSolverMultistep": (
        [
            {"algorithm_type": kind, "solver_order": order, "solver_type": rule}
            for kind, order, rule in product(("dpmsolver++",), (1, 2, 3), ("midpoint", "heun"))
        ],
        (*BENT, "use_lu_lambdas"),
        True,
    ),
    "DPMSolverSinglestep": ([{"solver_order": order, **EXACT} for order in (2, 3)], BENT, True),
    "DEISMultistep": ([{"solver_order": order} for order in (1, 2, 3)], BENT, True),
    "UniPCMultistep": (
        [{"solver_order": o, "solver_type": b, **EXACT} for o, b in product((1, 2, 3), ("bh1", "bh2"))],
        BENT,
        True,
    ),
    "SASolver": (
        [{"tau_func": lambda t: 0.0, "predictor_order": o, "corrector_order": o} for o in (1, 2, 3)],
        BENT,
        True,
    ),
}
FLOW = ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver")
K_ETA_ZERO = ("dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
K_PLAIN = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m")


@dataclass(frozen=True)
class Peer:
    """`walk(denoise, x, n)`; `label` says system, sampler, settings and schedule."""

    label: str
    walk: Walk


def peers(levels: NoiseLevels, shift: float = 1.0) -> Iterator[Peer]:
    """All of them for these levels: Stable Diffusion's, or rectified flow of this shift."""
    yield from _k_diffusion(levels)
    for name, (settings, schedules, scaled) in CLASSES.items():
        if not levels.is_flow:
            yield from _discrete(name, settings, schedules, scaled)
        elif name in FLOW:
            for own in settings:
                config = {
                    **own,
                    "use_flow_sigmas": True,
                    "flow_shift": shift,
                    "prediction_type": "flow_prediction",
                }
                yield Peer(f"diffusers {name} {_short(own)} flow", partial(_walk, name, config, False, True))
    if levels.is_flow:
        for name in ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"):
            yield Peer(f"diffusers {name}", partial(_walk, name, {"shift": shift}, False, True))


def _discrete(
    name: str, settings: list[dict[str, Any]], schedules: tuple[str, ...], scaled: bool
) -> Iterator[Peer]:
    for own in settings:
        for spacing in SPACINGS:
            config = {**SD, **own, "timestep_spacing": spacing, "steps_offset": int(spacing == "leading")}
            yield Peer(
                f"diffusers {name} {_short(own)} {spacing}", partial(_walk, name, config, scaled, False)
            )
        for bent in schedules:
            config = {**SD, **own, bent: True}
            yield Peer(f"diffusers {name} {_short(own)} {bent}", partial(_walk, name, config, scaled, False))


def _short(settings: dict[str, Any]) -> str:
    return " ".join(str(value) for value in settings.values() if not callable(value))


def _walk(
    name: str, config: dict[str, Any], scaled: bool, flow: bool, denoise: Denoise, noise: Tensor, n: int
) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(diffusers, f"{name}Scheduler")(**config)
        scheduler.set_timesteps(n)
    x = noise
    for index, t in enumerate(scheduler.timesteps):
        sigma = _sigma(scheduler, index, t)
        norm = 1.0 if flow else math.hypot(1, sigma)
        if index == 0 and not scaled:
            x = x * (sigma if flow else norm)
        at = x * norm if scaled else x
        x = scheduler.step((at - denoise(at, sigma)) / sigma, t, x).prev_sample
    return x


def _sigma(scheduler: Any, index: int, t: Tensor) -> float:
    """The level of an evaluation; DDIM and PNDM keep no sigmas, and PRK's half steps are whole timesteps there."""
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[index])
    kept = float(scheduler.alphas_cumprod[int(t)])
    return math.sqrt((1 - kept) / kept)


def _k_diffusion(levels: NoiseLevels) -> Iterator[Peer]:
    top, low = levels.sigma_max, levels.sigma_min
    lists: dict[str, Callable[[int], Tensor]] = {
        "karras": lambda n: torch.tensor(schedule("karras", n, levels)),
        "exponential": lambda n: torch.tensor(schedule("exponential", n, levels)),
        "normal": lambda n: torch.tensor(schedule("normal", n, levels)),
        "simple": lambda n: torch.tensor(schedule("simple", n, levels)),
    }
    for name, (kind, make) in product((*K_PLAIN, *K_ETA_ZERO), lists.items()):
        options = {"eta": 0.0} if name in K_ETA_ZERO else {}
        function = installed.function(name)
        yield Peer(f"k-diffusion {name} {kind}", partial(_k_walk, function, make, options, levels.is_flow))
    if not levels.is_flow:
        yield Peer("k-diffusion dpm_fast", partial(_k_fast, installed.function("dpm_fast"), low, top))


def _k_walk(
    function: Any, make: Any, options: dict[str, float], flow: bool, denoise: Denoise, noise: Tensor, n: int
) -> Tensor:
    sigmas = make(n).double()
    x = noise * (sigmas[0] if flow else math.hypot(1, sigmas[0]))
    return function(_as_model(denoise), x, sigmas, disable=True, **options)


def _k_fast(function: Any, low: float, top: float, denoise: Denoise, noise: Tensor, n: int) -> Tensor:
    x = noise * math.hypot(1, top)
    return function(_as_model(denoise), x, low, top, n, disable=True)


def _as_model(denoise: Denoise) -> Any:
    return lambda x, sigma, **extra: denoise(x, float(sigma.flatten()[0]))
