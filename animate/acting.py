"""Motion modules in a run: the patches that put attention over frames inside a UNet's blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ..core.patch import BlockPatch, StepInfo
from ..core.temporal import MotionModule, Over
from ..core.unet_config import UNetConfig
from .network import Motion, places


@dataclass(frozen=True)
class MotionActing:
    """A motion module file on a UNet whose batch is [branches * clips * frames].

    `joint`: the modules' group norms go over all frames of a clip, as in diffusers; by the authors' code each frame
    has its own. `over` gives for a number of frames how attention is carried over them. `strength` weighs what the
    modules add.
    """

    network: Motion
    unet: UNetConfig
    clips: int = 1
    joint: bool = False
    over: Callable[[int], Over] | None = None
    strength: float = 1.0

    def active(self, info: StepInfo) -> bool:
        """Whether it changes anything in this evaluation."""
        return self.strength != 0.0

    def patches(self) -> list[BlockPatch]:
        """One for each module."""
        where = places(self.unet)
        return [
            BlockPatch(where[path][0], partial(self._moved, module), inside=True)
            for path, module in self.network.modules_by_path().items()
        ]

    def _moved(self, module: MotionModule, x: Tensor, info: StepInfo) -> Tensor:
        frames = len(x) // (self.clips * max(len(info.branches), 1))
        out = module(x, frames, self.joint, self.over(frames) if self.over else None)
        return out if self.strength == 1.0 else x.lerp(out, self.strength)
