"""What an adapter needs of the system it runs in: the network's sizes and weights, and ways to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..core.patch import EvaluationPatch, StepInfo
from ..core.unet_config import UNetConfig
from .strength import Timeline


@dataclass(frozen=True)
class Host:
    """A model in one run.

    Args:
        config: sizes of the UNet.
        timeline: the sigmas of the walk.
        factor: pixels for each pixel of the latent.
        weights: the UNet's tensors by LDM name, as they are now (Control-LoRA).
        encode: pixels [b, 3, H, W] in -1..1 -> latents as the UNet knows them (reference, SparseCtrl of latents).
        noised: latents [b, c, h, w] -> what the network is given of them in this evaluation (reference).
        evaluate: runs the UNet on `info.inputs` with patches; what it answers is not used (reference).
        vision: a picture -> CLIP ViT-L/14's last hidden state [1, 257, 1024] (T2I style); None where there is none.
    """

    config: UNetConfig
    timeline: Timeline
    factor: int
    weights: Callable[[], Mapping[str, Tensor]]
    encode: Callable[[Tensor], Tensor]
    noised: Callable[[Tensor, StepInfo], Tensor]
    evaluate: Callable[[StepInfo, Sequence[EvaluationPatch]], None]
    vision: Callable[[object], Tensor] | None = None
