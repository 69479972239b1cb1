"""Arguments as people give them, told by name where they are of no use."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError


def steps(given: Any) -> int:
    """num_inference_steps as an int. OptionError for what is none, or below 1."""
    try:
        count = operator.index(given)
    except TypeError:
        raise OptionError(
            f"num_inference_steps={given!r}", "set_timesteps", "an int, or timesteps= by its name"
        ) from None
    if count < 1:
        raise OptionError(f"{count} steps", "set_timesteps", "1 or more")
    return count


def time(given: Any) -> float:
    """A timestep as a number; of a tensor its first entry. OptionError for what is none."""
    try:
        return float(given.flatten()[0].item() if isinstance(given, Tensor) else given)
    except (TypeError, ValueError, IndexError):
        shown = "an empty tensor" if isinstance(given, Tensor) else f"{given!r}"
        raise OptionError(f"timestep={shown}", expected="a number, an entry of scheduler.timesteps") from None


def times(given: Any) -> Tensor:
    """Timesteps as a tensor, [b]. OptionError for what is no numbers."""
    try:
        return torch.as_tensor(given).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise OptionError(
            f"timesteps={given!r}", "add_noise", "a tensor of numbers, one for each image"
        ) from None


def within(given: Tensor, low: float, high: float) -> None:
    """OptionError for a timestep that is out of range; what lives on an accelerator is not read."""
    if given.device.type != "cpu":
        return
    out = given[~((given >= low) & (given <= high))]
    if len(out):
        raise OptionError(f"timesteps={out[0].item():g}", "add_noise", f"{low:g} to {high:g}")
