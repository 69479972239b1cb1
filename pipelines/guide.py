"""Guidance in a pipeline's loop: the network's answers to both prompts, and the kin that change what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..core.patch import EvaluationPatch
from ..guidance.apply import combine, patches_of
from ..guidance.rescale import Rescale
from ..guidance.spec import Evaluation, Guidance, Setting
from ..samplers.levels import NoiseLevels
from ..standalone.conditioning import Conditioning, join
from ..standalone.single_file import PREDICTIONS

TRAINED = 1000  # timesteps
_NAMES = {theirs: ours for ours, theirs in PREDICTIONS.items()}


class Network(Protocol):
    """What the UNet answers to scaled latents under a conditioning, with patches in this evaluation alone."""

    def __call__(self, x: Tensor, cond: Conditioning, patches: Sequence[EvaluationPatch] = ()) -> Tensor: ...


@dataclass
class Guide:
    """What the network is told, and how strongly: uncond + scale (cond - uncond); without uncond, cond alone.

    `kin` change that; they see latents at noise levels (x0 + sigma noise), whatever the scheduler's are.
    """

    cond: Conditioning
    uncond: Conditioning | None
    scale: float
    levels: NoiseLevels
    prediction: str = "eps"
    kin: Sequence[Guidance] = ()

    def __call__(self, network: Network, scaled: Tensor, time: float) -> Tensor:
        """The network's output at a timestep under guidance; both sides in one evaluation."""
        patches = patches_of(self.kin, first=True)
        if self.uncond is None:
            cond, uncond = network(scaled, self.cond, patches), None
        else:
            both = network(torch.cat([scaled, scaled]), join(self.cond, self.uncond), patches)
            cond, uncond = both.chunk(2)
        if not self.kin:
            return cond if uncond is None else torch.lerp(uncond, cond, self.scale)
        return combine(self.kin, self._evaluation(network, scaled, time, cond, uncond))

    def _evaluation(
        self, network: Network, scaled: Tensor, time: float, cond: Tensor, uncond: Tensor | None
    ) -> Evaluation:
        sigma = self.levels.sigma(time)
        c_skip, c_out, c_in = self.levels.scalings(self.prediction, sigma)

        def denoised(answer: Tensor, x: Tensor) -> Tensor:
            return torch.add(x * c_skip, answer, alpha=c_out)

        def again(x: Tensor, *, negative: bool = False, patches: Sequence[EvaluationPatch] = ()) -> Tensor:
            told = self.cond
            if negative and self.uncond is not None:
                told = replace(self.uncond, branches=("uncond",))
            return network(x * c_in, told, [*patches_of(self.kin, first=False), *patches])

        return Evaluation(
            x=scaled / c_in,
            sigma=sigma,
            cond=cond,
            uncond=uncond,
            weight=self.scale,
            step=TRAINED - time,  # diffusers counts how far a run has come in timesteps
            steps=TRAINED,
            alpha=1.0,
            denoised=denoised,
            output=lambda x0, x: torch.sub(x0, x, alpha=c_skip) / c_out,
            again=again,
        )


def rescaling(share: float, setting: Setting) -> list[Guidance]:
    """Guidance rescale; nothing at 0."""
    return [Rescale(setting, share)] if share else []


def prediction_of(scheduler: Any) -> str:
    """What the network predicts, by its scheduler: eps, v or x0."""
    return _NAMES.get(str(scheduler.config.get("prediction_type", "epsilon")), "eps")
