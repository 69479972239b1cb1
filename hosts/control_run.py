"""The controls and image prompts of one walk of a host: made when it begins, asked at each evaluation of its UNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..controlnet.host import Host
from ..controlnet.ip_apply import ImageAdapter
from ..controlnet.model import acting
from ..controlnet.settings import Control
from ..core.adapters import Acting, patches_of
from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, Hooks, Inputs, StepInfo

Options = dict[str, Any]
Ask = Callable[[Host], Sequence[Acting]]  # what a person asked for, once the walk is known
Graft = Callable[
    [nn.Module, Sequence[EvaluationPatch], Hooks, Mapping[str, Any]], AbstractContextManager[Options]
]
Call = Callable[[Inputs, Options], object]  # one evaluation of the UNet as the host would do it


@dataclass(frozen=True)
class ControlAsk:
    """A control whose file is loaded, with what only it brings: ways to encode its picture."""

    control: Control
    encode: Callable[[Tensor], Tensor] | None = None
    vision: Callable[[object], Tensor] | None = None

    def __call__(self, host: Host) -> list[Acting]:
        host = replace(host, encode=self.encode or host.encode, vision=self.vision or host.vision)
        return [acting(self.control, host)]


@dataclass(frozen=True)
class ImageAsk:
    """An image prompt whose pictures are encoded."""

    adapters: Sequence[ImageAdapter]

    def __call__(self, host: Host) -> list[Acting]:
        return [replace(adapter, timeline=host.timeline) for adapter in self.adapters]


class ControlRun:
    """Everything that acts in one walk. `host_of` is given the way to evaluate the UNet on something else."""

    def __init__(self, host_of: Callable[[Callable[..., None]], Host], graft: Graft) -> None:
        self.host = host_of(self._evaluate)
        self._graft = graft
        self._adapters: list[Acting] = []
        self._patches = patches_of([])
        self._more: Sequence[EvaluationPatch] = ()
        self._now: tuple[nn.Module, Mapping[str, Any], Call] | None = None

    def __deepcopy__(self, memo: object) -> ControlRun:
        return self  # hosts copy their options

    def add(self, ask: Ask) -> None:
        """One more. OptionError or FileError where it does not go with this model."""
        self._adapters += ask(self.host)
        self._patches = patches_of(self._adapters)

    @contextmanager
    def more(self, patches: Sequence[EvaluationPatch]) -> Iterator[None]:
        """Evaluations inside have these besides."""
        before, self._more = self._more, patches
        try:
            yield
        finally:
            self._more = before

    @contextmanager
    def around(
        self, unet: nn.Module, info: StepInfo, options: Mapping[str, Any], call: Call
    ) -> Iterator[Options]:
        """The options for one evaluation; outside nothing of it is left in the UNet."""
        patches = [*self._patches(info), *self._more]
        if not patches:
            yield dict(options)
            return
        self._now = (unet, options, call)
        try:
            with torch.no_grad():
                hooks = Hooks(patches, info)
            with self._graft(unet, patches, hooks, options) as told:
                yield told
        finally:
            self._now = None

    def _evaluate(self, info: StepInfo, patches: Sequence[EvaluationPatch]) -> None:
        assert self._now is not None
        assert info.inputs is not None
        unet, options, call = self._now
        with self._graft(unet, patches, Hooks(patches, info), options) as told:
            call(info.inputs, told)


def no_vae(pixels: Tensor) -> Tensor:
    """What Host.encode is where no VAE was given."""
    raise OptionError("a control that looks at latents, without a VAE", todo="connect the model's VAE")
