"""The sizes of a host's UNet: LDM's names, whoever wrote its code and however its weights are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..core.errors import FileError, OptionError
from ..core.unet_config import UNetConfig


def config_of(unet: nn.Module) -> UNetConfig:
    """Sizes and heads. OptionError where it is no latent-diffusion UNet with cross-attention."""
    try:
        config = UNetConfig.from_shapes(_shapes(unet))
    except FileError as error:
        raise OptionError(
            f"control of a model of another kind ({type(unet).__name__}: {error.what})",
            expected="an SD1, SD2 or SDXL model",
        ) from None
    attentions: list[Any] = [module for module in unet.modules() if hasattr(module, "to_q")]
    heads: dict[int, int] = {one.to_q.out_features: one.heads for one in attentions}
    if len(set(heads.values())) == 1:
        return replace(config, num_heads=next(iter(heads.values())), head_dim=None)
    width, count = next(iter(heads.items()))
    return replace(config, num_heads=None, head_dim=width // count)


def _shapes(unet: nn.Module) -> dict[str, tuple[int, ...]]:
    """Quantised weights have another shape than their layer says."""
    shapes = {name: tuple(parameter.shape) for name, parameter in unet.named_parameters()}
    named: Any = unet.named_modules()
    linear = {name: module for name, module in named if hasattr(module, "in_features")}
    return shapes | {f"{name}.weight": (one.out_features, one.in_features) for name, one in linear.items()}
