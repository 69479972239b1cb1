"""Our names in the lists that ComfyUI's dropdowns show, changed in place; what another brings stays its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...samplers.schedules import schedule
from ..log import say_once
from ..offers import ScheduleOffer, kept, sampler_offers, schedule_offers
from . import comfy
from .function import MARK, Choice, sampler_function
from .levels import sampling_levels

_added: set[str] = set()  # names that this copy of the package put into the lists


def register() -> None:
    """Add what the host lacks. Doing it again, also from another copy of this package, changes nothing."""
    samplers = comfy("samplers")
    added = len(_add_samplers(samplers)), len(_add_schedules(samplers))
    own = kept(_foreign(_sampler_names(samplers), _function))
    say_once(
        f"[SigmaGraft] {added[0]} samplers and {added[1]} schedules added; ComfyUI's own stay: {', '.join(own)}"
    )


def _add_samplers(samplers: Any) -> list[str]:
    sampling = comfy("k_diffusion.sampling")
    names = []
    for offer in sampler_offers(_foreign(_sampler_names(samplers), _function)):
        setattr(sampling, f"sample_{offer.name}", sampler_function(Choice(offer)))
        names.append(offer.name)
    for listed in _lists(samplers, "SAMPLERS", "SAMPLER_NAMES", "KSAMPLER_NAMES"):
        _append(listed, names)
    return names


def _add_schedules(samplers: Any) -> list[str]:
    names = []
    for offer in schedule_offers(_foreign(_schedule_names(samplers), _handler)):
        samplers.SCHEDULER_HANDLERS[offer.name] = samplers.SchedulerHandler(schedule_function(offer), True)
        names.append(offer.name)
    for listed in _lists(samplers, "SCHEDULERS", "SCHEDULER_NAMES"):
        _append(listed, names)
    return names


def schedule_function(offer: ScheduleOffer) -> Callable[[Any, int], Tensor]:
    """handler(model_sampling, steps) -> sigmas, falling."""

    def handler(model_sampling: Any, steps: int) -> Tensor:
        return torch.tensor(schedule(offer.spec, steps, sampling_levels(model_sampling)), dtype=torch.float32)

    setattr(handler, MARK, offer)
    return handler


def settle() -> None:
    """Leave each name to whoever brought it after us, so that no dropdown has it twice; say so once."""
    samplers = comfy("samplers")
    for listed in _lists(samplers, "SAMPLERS", "SAMPLER_NAMES", "KSAMPLER_NAMES"):
        _drop_doubles(listed, _function)
    for listed in _lists(samplers, "SCHEDULERS", "SCHEDULER_NAMES"):
        _drop_doubles(listed, _handler)


def _drop_doubles(listed: list[str], owner: Callable[[str], Any]) -> None:
    for name in _added & {name for name in listed if listed.count(name) > 1}:
        if not hasattr(owner(name), MARK):
            listed.remove(name)
            say_once(f"[SigmaGraft] {name} is another pack's now; ours stays as a node")


def _lists(samplers: Any, alias: str, *names: str) -> Iterator[list[str]]:
    """Every list object under these names, once: another pack may have rebound one of them."""
    seen: list[list[str]] = []
    for owner, name in [(samplers.KSampler, alias), *((samplers, name) for name in names)]:
        listed = getattr(owner, name, None)
        if isinstance(listed, list) and not any(listed is known for known in seen):
            seen.append(listed)
            yield listed


def _append(listed: list[str], names: list[str]) -> None:
    _added.update(names)
    listed.extend(name for name in names if name not in listed)


def _sampler_names(samplers: Any) -> list[str]:
    return list(dict.fromkeys([*samplers.SAMPLER_NAMES, *samplers.KSampler.SAMPLERS]))


def _schedule_names(samplers: Any) -> list[str]:
    listed = [*samplers.SCHEDULER_NAMES, *samplers.KSampler.SCHEDULERS, *samplers.SCHEDULER_HANDLERS]
    return list(dict.fromkeys(listed))


def _foreign(names: list[str], owner: Callable[[str], Any]) -> list[str]:
    """Those that are not ours already."""
    return [name for name in names if not hasattr(owner(name), MARK)]


def _function(name: str) -> Any:
    sampling = comfy("k_diffusion.sampling")
    return getattr(sampling, f"sample_{name}", None)


def _handler(name: str) -> Any:
    samplers = comfy("samplers")
    entry = samplers.SCHEDULER_HANDLERS.get(name)
    return getattr(entry, "handler", entry)
