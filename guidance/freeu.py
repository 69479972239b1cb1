"""FreeU: the UNet's decoder made to go more by what it has worked out and less by what its skips carry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..core.option import Option
from ..core.patch import SkipPatch, StepInfo
from ..core.unet_config import UNetConfig
from .spec import Guidance, Setting, guidance


@guidance(
    "freeu",
    label="FreeU",
    paper="2309.11497",
    options=(
        Option("b1", 1.3, 0.0, 10.0, "backbone at the first places"),
        Option("b2", 1.4, 0.0, 10.0, "backbone at the second"),
        Option("s1", 0.9, 0.0, 10.0, "low frequencies of the skips at the first"),
        Option("s2", 0.2, 0.0, 10.0, "and at the second"),
        Option("version", 2, 1, 2, "1: all of the backbone alike; 2: more where its mean is large"),
        Option(
            "places",
            "channels",
            choices=("channels", "levels"),
            help="by width, 4 and 2 times the model's, as the authors do; the two deepest levels, as diffusers does",
        ),
    ),
)
class FreeU(Guidance):
    """In the decoder the first half of the channels of x times b (version 2: by up to b, as x's mean over channels
    rises from its least to its largest), and the lowest frequencies of the skip connection times s.
    """

    def __init__(
        self, setting: Setting, b1: float, b2: float, s1: float, s2: float, version: int, places: str
    ) -> None:
        super().__init__(setting)
        stages = {0: (b1, s1), 1: (b2, s2)}
        self._patches = [
            SkipPatch(("output", block), partial(self._changed, stages[stage], _BACKBONES[version]))
            for block, stage in enumerate(_STAGES[places](setting.known("freeu")))
            if stage in stages
        ]

    def patches(self) -> list[SkipPatch]:
        return self._patches

    @staticmethod
    def _changed(
        stage: tuple[float, float],
        backbone: Callable[[Tensor, float], Tensor | float],
        x: Tensor,
        skip: Tensor,
        info: StepInfo,
    ) -> tuple[Tensor, Tensor]:
        half = x.shape[1] // 2
        first = x[:, :half] * backbone(x, stage[0])
        return torch.cat([first, x[:, half:]], 1), low_frequencies(skip, stage[1])


def _by_mean(x: Tensor, b: float) -> Tensor:
    """1 to b [batch, 1, h, w] as the mean over channels goes from its least to its largest."""
    mean = x.mean(1, keepdim=True)
    low, high = (edge(mean, dim=(2, 3), keepdim=True) for edge in (torch.amin, torch.amax))
    return 1 + (b - 1) * (mean - low) / (high - low).clamp_min(
        torch.finfo(mean.dtype).tiny
    )  # 1 where it is even


_BACKBONES: dict[int, Callable[[Tensor, float], Tensor | float]] = {1: lambda x, b: b, 2: _by_mean}


def _by_width(config: UNetConfig) -> list[int]:
    """The stage of each output block by the width of what enters it from below."""
    widths = [config.widths[-1]]
    for width, blocks in list(zip(config.widths, config.num_res_blocks, strict=True))[::-1]:
        widths += [width] * (blocks + 1)
    stages = {config.model_channels * 4: 0, config.model_channels * 2: 1}
    return [stages.get(width, -1) for width in widths[:-1]]


def _by_level(config: UNetConfig) -> list[int]:
    return [level for level, blocks in enumerate(config.num_res_blocks[::-1]) for _ in range(blocks + 1)]


_STAGES = {"channels": _by_width, "levels": _by_level}


def low_frequencies(x: Tensor, scale: float) -> Tensor:
    """x [.., h, w] with the two by two frequencies around the mean times `scale`."""
    found = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    found[..., max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] *= scale
    return torch.fft.ifftn(torch.fft.ifftshift(found, dim=(-2, -1)), dim=(-2, -1)).real.to(x)
