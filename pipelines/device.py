"""The device that scripts run on: what the machine has, or what SIGMAGRAFT_DEVICE names."""

from __future__ import annotations

import os

import torch

from ..standalone.memory import choose_device

VARIABLE = "SIGMAGRAFT_DEVICE"


def best_device() -> torch.device:
    """CUDA, else MPS, else the CPU; SIGMAGRAFT_DEVICE (cuda:1, mps, cpu ...) names another.

    OptionError where the one that is named is not here.
    """
    return choose_device(os.environ.get(VARIABLE) or None)
