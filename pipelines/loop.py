"""The denoising loop of the guides: a timestep, the network, guidance, `scheduler.step`, again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.adapters import with_more
from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, Hooks, Inputs, StepInfo
from ..schedulers.draw import Generators
from ..standalone.conditioning import Conditioning
from .guide import Guide

if TYPE_CHECKING:
    from .latent import LatentPipeline

StepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]


@dataclass
class Loop:
    """One run of a pipeline's scheduler.

    Attributes:
        channels: further input channels [b, extra, h, w] of inpainting and depth models.
        after: (latents, index) -> latents, after each step.
        hooks: answers adapters' patches for one evaluation.
        on_step_end: the caller's; may give other latents and prompt_embeds back.
    """

    pipe: LatentPipeline
    guide: Guide
    generator: Generators = None
    eta: float = 0.0
    channels: Tensor | None = None
    after: Callable[[Tensor, int], Tensor] | None = None
    hooks: Callable[[StepInfo], Hooks | None] = lambda info: None
    on_step_end: StepEnd | None = None
    told: Sequence[str] = ("latents",)
    _further: dict[str, Any] = field(default_factory=dict, init=False)
    _times: list[float] = field(default_factory=list, init=False)

    def run(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """The latents after the last timestep."""
        self._further = step_arguments(self.pipe.scheduler, self.generator, self.eta)
        self._times = timesteps.tolist()  # read once, so that no step waits for the device
        self.pipe.stopped = False
        with self.pipe.progress_bar(len(timesteps)) as bar:
            for index, timestep in enumerate(timesteps):
                if self.pipe.stopped:
                    break
                latents = self._step(latents, timestep, index)
                bar.update()
        return latents

    def _step(self, latents: Tensor, timestep: Tensor, index: int) -> Tensor:
        scheduler = self.pipe.scheduler
        scaled = scheduler.scale_model_input(latents, timestep)
        time = self._times[index]
        network = partial(self._network, timestep, self.guide.levels.sigma(time))
        output = self.guide(network, scaled, time)
        latents = scheduler.step(output, timestep, latents, **self._further, return_dict=False)[0]
        if self.after is not None:
            latents = self.after(latents, index)
        return latents if self.on_step_end is None else self._tell(index, timestep, latents)

    def _network(
        self,
        timestep: Tensor,
        sigma: float,
        x: Tensor,
        cond: Conditioning,
        patches: Sequence[EvaluationPatch] = (),
    ) -> Tensor:
        if self.channels is not None:
            repeat = len(x) // len(self.channels)
            x = torch.cat([x, self.channels.repeat(repeat, 1, 1, 1).to(x)], dim=1)
        unet, given = self.pipe.unet, x.to(self.pipe.unet.dtype)
        times = timestep.to(x.device, torch.float32).expand(len(x))
        inputs = Inputs(given, times, cond.context, cond.vector)
        info = StepInfo(sigma, branches=cond.branches, inputs=inputs)
        hooks = with_more(self.hooks(info), patches, info)
        found = unet(given, times, cond.context, vector=cond.vector, hooks=hooks, return_dict=False)[0]
        return found.to(x.dtype)

    def _tell(self, index: int, timestep: Tensor, latents: Tensor) -> Tensor:
        assert self.on_step_end is not None
        state = {"latents": latents, "prompt_embeds": self.guide.cond.context}
        changed = self.on_step_end(self.pipe, index, timestep, {name: state[name] for name in self.told})
        if not changed:
            return latents
        if (context := changed.get("prompt_embeds")) is not None:
            self.guide.cond = replace(self.guide.cond, context=context)
        return changed.get("latents", latents)


TOLD = ("latents", "prompt_embeds")


def check_told(names: Sequence[str]) -> Sequence[str]:
    """Raises OptionError for a tensor that callback_on_step_end cannot be given."""
    for name in names:
        if name not in TOLD:
            raise OptionError(f"callback_on_step_end_tensor_inputs with {name!r}", expected=" or ".join(TOLD))
    return names


def step_arguments(scheduler: Any, generator: Generators, eta: float) -> dict[str, Any]:
    """Those of eta and generator that this scheduler's `step` takes, whoever wrote it."""
    taken: Mapping[str, Any] = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": generator}
    return {name: value for name, value in offered.items() if name in taken}


def set_timesteps(
    scheduler: Any,
    steps: int,
    device: torch.device,
    timesteps: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> Tensor:
    """Lay the scheduler out over `steps`, or the caller's own timesteps or sigmas. OptionError for both."""
    if timesteps is not None and sigmas is not None:
        raise OptionError("timesteps and sigmas", expected="one of the two")
    if timesteps is not None:
        scheduler.set_timesteps(timesteps=timesteps, device=device)
    elif sigmas is not None:
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    return scheduler.timesteps


def from_strength(scheduler: Any, steps: int, strength: float) -> Tensor:
    """The last `strength` of the timesteps, where image-to-image starts. OptionError outside (0, 1]."""
    if not 0.0 < strength <= 1.0:
        raise OptionError(f"strength {strength:g}", expected="above 0, at most 1")
    skipped = max(steps - min(int(steps * strength), steps), 0)
    start = skipped * scheduler.order
    left = scheduler.timesteps[start:]
    if not len(left):
        raise OptionError(
            f"strength {strength:g} of {steps} steps leaves no step",
            todo="raise strength or num_inference_steps",
        )
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return left
