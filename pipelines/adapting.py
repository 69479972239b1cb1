"""Adapters in a run of a pipeline: LoRAs, controls and image prompts, as the runner has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..controlnet.model import acting
from ..controlnet.settings import Control
from ..core.adapters import Acting, hooks_of
from ..core.patch import Hooks, StepInfo
from ..samplers.levels import NoiseLevels
from ..standalone.control import host_of
from ..standalone.lora_run import following

if TYPE_CHECKING:
    from .latent import LatentPipeline

HookOf = Callable[[StepInfo], Hooks | None]
IMAGES = ("ip_adapter_image", "ip_adapter_image_embeds")


def levels_of_scheduler(scheduler: Any) -> NoiseLevels:
    """What the timesteps of a scheduler mean: its own table where it has one, else Stable Diffusion's."""
    table = getattr(scheduler, "alphas_cumprod", None)
    return NoiseLevels.discrete(None if table is None else torch.as_tensor(table).tolist())


def sigmas_of(levels: NoiseLevels, timesteps: Tensor) -> list[float]:
    """The sigmas of a run, each once, and the 0 at its end: where adapters measure how far it has come."""
    found = [levels.sigma(float(timestep)) for timestep in timesteps]
    return [*sorted(set(found), reverse=True), 0.0]


def hooks_for(
    pipe: LatentPipeline,
    call: SimpleNamespace,
    controls: Sequence[Control],
    levels: NoiseLevels,
    sigmas: Sequence[float],
    latents: Tensor,
    more: Sequence[Acting] = (),
) -> HookOf:
    """What answers the patches of every adapter that acts in this call, and of `more`. OptionError, FileError."""
    model = pipe.model
    pipe.ip_adapters.follow(model)
    given = {name: getattr(call, name, None) for name in IMAGES}
    told = pipe.with_image_prompts({name: value for name, value in given.items() if value is not None})
    request = SimpleNamespace(ip_adapter=told.get("ip_adapter"))
    adapters: list[Acting] = [*more, *pipe.freeu, *pipe.ip_adapters.for_run(request, sigmas)]  # type: ignore[arg-type]
    host = host_of(model, levels, sigmas, latents) if controls else None
    adapters += [acting(control, host) for control in controls if host is not None]
    return following(pipe.loras, hooks_of(adapters), sigmas)


@contextmanager
def lora_scale(pipe: LatentPipeline, given: dict[str, Any] | None) -> Iterator[None]:
    """`cross_attention_kwargs={"scale": s}`: the active LoRAs times s for the length of one call."""
    scale = float((given or {}).get("scale", 1.0))
    if scale == 1.0 or not pipe.loras.active:
        yield
        return
    before = dict(pipe.loras.active)
    pipe.loras.set({name: strength.times(scale) for name, strength in before.items()})
    try:
        yield
    finally:
        pipe.loras.set(before)
