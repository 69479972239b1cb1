"""A host's noise levels for a clip: those that motion modules were trained on, in the places of the model's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...samplers.levels import NoiseLevels
from .control_model import Levels, patcher_of

ZERO_SNR = 1000.0  # a sigma beyond which a model was trained to zero terminal SNR
Swap = tuple[Any, str, Any]


def levelled(p: Any, betas: Mapping[str, Any] | None) -> list[Swap]:
    """What stands in the places of the model's levels while a walk lasts; the sampler, this pass's own, changes now."""
    sampler, patcher = p.sampler, patcher_of(p)
    own = Levels.of(p, sampler.model_wrap)
    if betas is None or own.flow or float(own.table[-1]) > ZERO_SNR:
        return []
    table = torch.tensor(NoiseLevels.discrete(**betas).sigmas)
    swaps: list[Swap] = []
    if patcher is not None:
        name = "predictor" if hasattr(patcher.model, "predictor") else "model_sampling"
        made = _with(getattr(patcher.model, name), table)
        swaps.append((patcher.model, name, made))
        if hasattr(sampler.model_wrap, "predictor"):
            sampler.model_wrap.predictor = made
    bars = 1 / (1 + table.double() ** 2)
    if isinstance(vars(sampler.model_wrap).get("_buffers", {}).get("sigmas"), Tensor):
        _level(sampler.model_wrap, table)
    if hasattr(sampler.model_wrap_cfg, "alphas"):  # of samplers of timesteps
        sampler.model_wrap_cfg.alphas = bars.to(sampler.model_wrap_cfg.alphas)
    if isinstance(getattr(p.sd_model, "alphas_cumprod", None), Tensor):
        swaps.append((p.sd_model, "alphas_cumprod", bars.to(p.sd_model.alphas_cumprod)))
    return swaps


def _with(sampling: Any, table: Tensor) -> Any:
    """A copy of what a host has its levels in, on others."""
    made = copy.deepcopy(sampling)
    _level(made, table)
    if isinstance(getattr(made, "alphas_cumprod", None), Tensor):
        made.alphas_cumprod = (1 / (1 + table.double() ** 2)).to(made.alphas_cumprod)
    return made


def _level(owner: Any, table: Tensor) -> None:
    owner.sigmas, owner.log_sigmas = table.to(owner.sigmas), table.log().to(owner.sigmas)
