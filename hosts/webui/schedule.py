"""A schedule of ours as an entry of a web UI's list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import sd_schedulers
from torch import Tensor

from ...samplers.schedules import schedule
from ..offers import ScheduleOffer
from .choice import current
from .model import levels_of


def scheduler(offer: ScheduleOffer) -> Any:
    """The entry for the host's list; it is handed the model, whose levels the schedule needs."""
    return sd_schedulers.Scheduler(offer.name, offer.label, sigmas_of(offer), need_inner_model=True)


def sigmas_of(offer: ScheduleOffer) -> Callable[..., Tensor]:
    """function(n, sigma_min, sigma_max, inner_model, device) -> n + 1 falling sigmas.

    The range is the model's own, as for the hosts' schedules in training times; where the schedule has options for it,
    those say it.
    """

    def sigmas(
        n: int,
        sigma_min: float,
        sigma_max: float,
        inner_model: Any,
        device: torch.device | str,
        **ignored: Any,
    ) -> Tensor:
        options = current().schedule_options_for(offer)
        values = schedule(offer.spec, n, levels_of(inner_model), **options)
        return torch.tensor(values, dtype=torch.float32, device=device)

    sigmas.__name__ = sigmas.__qualname__ = f"sigmas_{offer.name}"
    return sigmas
