"""What the nodes of clips do when they run; loaded then, since a start needs none of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...animate.files import MotionFile, open_motion
from ...animate.network import Motion
from ...animate.windows import Plan
from ..motion import MotionAsk
from .control_host import compute_dtype
from .control_networks import Network
from .motion_patch import animated

__all__ = ["apply", "load", "open_motion"]


@dataclass(frozen=True)
class MotionModules:
    """A file and its network."""

    file: MotionFile
    network: Network[Motion]


def load(path: Path) -> MotionModules:
    """The modules of a file. FileError."""
    found = open_motion(path)
    return MotionModules(
        found, Network(lambda dtype: found.build(torch.device("cpu"), dtype), lambda made: [made])
    )


def apply(
    model: Any, motion: MotionModules, plan: Plan, joint: bool, strength: float, model_betas: bool
) -> Any:
    """A MODEL whose batch is a clip. OptionError or FileError where the modules do not fit it."""
    network, patchers = motion.network.at(compute_dtype(model.model))
    ask = MotionAsk(network, motion.file, joint, strength)
    return animated(model, ask, patchers, plan, model_betas)
