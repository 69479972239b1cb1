"""Our samplers under the names of k_diffusion.sampling: `k_diffusion.sample_euler(model, x, sigmas, ...)`.

A drop-in for that module's samplers: `sample_<name>` for every registered name, made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor

from .convention import k_diffusion_function
from .spec import SAMPLERS

_START = "sample_"
_function = cache(k_diffusion_function)


def __getattr__(name: str) -> Callable[..., Tensor]:
    sampler = name.removeprefix(_START)
    if not name.startswith(_START) or sampler not in SAMPLERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _function(SAMPLERS[sampler])


def __dir__() -> list[str]:
    return [_START + name for name in SAMPLERS.names()]
