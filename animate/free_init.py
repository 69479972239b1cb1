"""FreeInit (arXiv:2312.07537): the walk again from noise whose low frequencies are those of the clip it ended in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest

AXES = (-3, -2, -1)  # frames, height, width


@dataclass(frozen=True)
class FreeInit:
    """`rounds` walks. Below the stop frequencies (1 is the highest) the noise is that of the last round's clip.

    `coarse`: early rounds take fewer steps, in proportion to their number.
    """

    rounds: int = 3
    method: str = "butterworth"
    order: float = 4
    spatial: float = 0.25
    temporal: float = 0.25
    coarse: bool = False

    def __post_init__(self) -> None:
        if self.method not in FILTERS:
            raise OptionError(f"a FreeInit filter {self.method!r}", todo=nearest(self.method, FILTERS))
        if not 1 <= self.rounds <= 100:
            raise OptionError(f"{self.rounds} rounds of FreeInit", expected="1 to 100")
        for name, value in (("spatial", self.spatial), ("temporal", self.temporal)):
            if not 0 <= value <= 1:
                raise OptionError(f"a {name} stop frequency of {value}", expected="0 to 1")

    def steps(self, steps: int, index: int) -> int:
        """The steps of one round, of `steps` asked for."""
        return max(1, int(steps / self.rounds * (index + 1))) if self.coarse else steps

    def passed(self, shape: Sequence[int]) -> Tensor:
        """[frames, height, width]: how much of each frequency the low-pass filter lets through, 0 in the middle."""
        if not self.spatial or not self.temporal:
            return torch.zeros(*shape[-3:])
        scale = (self.spatial / self.temporal, 1.0, 1.0)
        axes = [(torch.arange(n) * 2 / n - 1) * by for n, by in zip(shape[-3:], scale, strict=True)]
        grids = torch.meshgrid(*axes, indexing="ij")
        return FILTERS[self.method](sum((grid**2 for grid in grids), torch.zeros(())), self)

    def mixed(self, low: Tensor, high: Tensor) -> Tensor:
        """The low frequencies of one and the high ones of the other [..., frames, height, width], in fp32."""
        keep = torch.fft.ifftshift(self.passed(low.shape).to(low.device))
        spectrum = torch.fft.fftn(low.float(), dim=AXES) * keep
        spectrum += torch.fft.fftn(high.float(), dim=AXES) * (1 - keep)
        return torch.fft.ifftn(spectrum, dim=AXES).real


# squared distance from the middle, in units of the highest frequency -> what passes
FILTERS: dict[str, Callable[[Tensor, FreeInit], Tensor]] = {
    "butterworth": lambda d, free: 1 / (1 + (d / free.spatial**2) ** free.order),
    "gaussian": lambda d, free: torch.exp(-d / (2 * free.spatial**2)),
    "ideal": lambda d, free: (d <= 2 * free.spatial).float(),
}
