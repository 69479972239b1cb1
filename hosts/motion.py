"""Motion modules of AnimateDiff in a host's walk: asked for as controls are, on the levels they were trained on."""

from __future__ import annotations

from dataclasses import dataclass

from ..animate.acting import MotionActing
from ..animate.files import MotionFile
from ..animate.free_noise import FreeNoise
from ..animate.network import Motion, check_fit
from ..controlnet.host import Host


@dataclass(frozen=True)
class MotionAsk:
    """Motion modules in a walk. FileError where they were made for another model.

    `joint`: group norms as diffusers has them; `free_noise` carries attention over frames in its windows.
    """

    network: Motion
    file: MotionFile
    joint: bool
    strength: float
    free_noise: FreeNoise | None = None

    def __call__(self, host: Host) -> list[MotionActing]:
        check_fit(self.network.config, host.config, self.file.source)
        over = self.free_noise.over if self.free_noise else None
        return [MotionActing(self.network, host.config, joint=self.joint, over=over, strength=self.strength)]

    @property
    def volume(self) -> bool:
        """Whether the ResNets' norms go over all frames of a clip: as v1 was trained."""
        return not self.joint and self.file.config.version == "v1"
