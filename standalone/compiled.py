"""The UNet compiled by TorchInductor: fused, channels-last, and on CPU with its weights frozen into the code."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .model import Model

_THAWED: list[bool] = []  # not empty once adapters have been put on a compiled network in this process


def compile_unet(model: Model) -> None:
    """Replaces ``model.unet`` by its compiled form; the first step of each new size compiles, later runs reuse it."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder()))
    from torch._inductor import config  # slow to import, and only compiling needs it

    config.freezing = model.device.type == "cpu" and not _THAWED
    model.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.unet = torch.compile(model.unet, dynamic=False)  # type: ignore[assignment]


def thaw(anew: bool = False) -> None:
    """Compiles once more, with weights that may change: adapters exchange those that frozen code holds as constants.

    ``anew``: again in any case, as compiled code does not notice a hook on a layer that had none.
    """
    from torch._inductor import config

    _THAWED.append(True)
    if config.freezing or anew:
        config.freezing = False
        torch.compiler.reset()


def cache_folder() -> Path:
    """Where compiled code is kept between runs: the user's cache folder rather than /tmp, which reboots empty."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sigmagraft" / "inductor"
