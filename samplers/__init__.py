"""Samplers, schedules, noise levels and noise sources. Importing this registers every sampler."""

from __future__ import annotations

# the order of the methods here is the order of every list of samplers
# isort: off
from . import euler, heun, dpm  # noqa: F401
from . import dpm_multistep, dpm_singlestep, dpm_grouped, dpmpp, dpm_fast, dpm_adaptive  # noqa: F401
from . import ddim  # noqa: F401
from . import unipc, deis, res_multistep, sa, er_sde, seeds, adams_pc  # noqa: F401
from . import heunpp2, lms, ipndm, pndm, gradient_estimation, ddpm, tcd, lcm, consistency  # noqa: F401
from . import schedule_sigma, schedule_time, schedule_spacing, schedule_beta, schedule_vp  # noqa: F401
from . import schedule_laplace, schedule_tangent, schedule_flow, schedule_tables  # noqa: F401
from . import fitted  # noqa: F401
from . import noise_paths, noise_spatial  # noqa: F401
from . import runge_kutta, exponential, collocation  # noqa: F401  (tables: the last of the samplers)

# isort: on
from .convention import k_diffusion_function, levels_of_model
from .drive import drive, find_sampler
from .finite import NonFiniteError
from .invert import inverse, invert
from .levels import NoiseLevels
from .noise import ImageNoise, noise_kinds
from .noise_paths import BrownianNoise
from .noise_types import NOISE_TYPES, NoiseType, noise_type, parse_noise, step_noise
from .replay import Recording, recorded, resume
from .restart import restart
from .schedules import SCHEDULES, ScheduleSpec, schedule, schedule_rule, sigmas_at
from .spec import SAMPLERS, Method, Option, Run, SamplerSpec, sampler
from .stepper import Stepper

__all__ = [
    "NOISE_TYPES",
    "SAMPLERS",
    "SCHEDULES",
    "BrownianNoise",
    "ImageNoise",
    "Method",
    "NoiseLevels",
    "NoiseType",
    "NonFiniteError",
    "Option",
    "Recording",
    "Run",
    "SamplerSpec",
    "ScheduleSpec",
    "Stepper",
    "drive",
    "find_sampler",
    "inverse",
    "invert",
    "k_diffusion_function",
    "levels_of_model",
    "noise_kinds",
    "noise_type",
    "parse_noise",
    "recorded",
    "restart",
    "resume",
    "sampler",
    "schedule",
    "schedule_rule",
    "sigmas_at",
    "step_noise",
]
