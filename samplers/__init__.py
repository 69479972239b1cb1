"""Samplers, schedules, noise levels and noise sources. Importing this registers every sampler."""

from __future__ import annotations

# the order of the methods here is the order of every list of samplers
# isort: off
from . import euler, heun, dpm, dpmpp, ddim  # noqa: F401
from . import runge_kutta  # noqa: F401

# isort: on
from .convention import k_diffusion_function, levels_of_model
from .drive import drive, find_sampler
from .finite import NonFiniteError
from .levels import NoiseLevels
from .noise import BrownianNoise, ImageNoise, noise_kinds, step_noise
from .schedules import SCHEDULES, ScheduleSpec, schedule, schedule_rule
from .spec import SAMPLERS, Method, Option, Run, SamplerSpec, sampler
from .stepper import Stepper

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "BrownianNoise",
    "ImageNoise",
    "Method",
    "NoiseLevels",
    "NonFiniteError",
    "Option",
    "Run",
    "SamplerSpec",
    "ScheduleSpec",
    "Stepper",
    "drive",
    "find_sampler",
    "k_diffusion_function",
    "levels_of_model",
    "noise_kinds",
    "sampler",
    "schedule",
    "schedule_rule",
    "step_noise",
]
