"""Guidance kin: what changes how the prompt pulls, beside the weight itself. Registering enrols one everywhere."""

from __future__ import annotations

from . import apg, cfg_zero, dynamic_threshold, freeu, pag, rescale, sag
from .apply import Kin, combine, open_kin
from .spec import GUIDANCES, Evaluation, Guidance, GuidanceSpec, Setting, guidance
from .text import Chosen, read_guidance, read_guidances

__all__ = [
    "GUIDANCES",
    "Chosen",
    "Evaluation",
    "Guidance",
    "GuidanceSpec",
    "Kin",
    "Setting",
    "apg",
    "cfg_zero",
    "combine",
    "dynamic_threshold",
    "freeu",
    "guidance",
    "open_kin",
    "pag",
    "read_guidance",
    "read_guidances",
    "rescale",
    "sag",
]
