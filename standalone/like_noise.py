"""Noise as other systems draw it: for a whole batch at once, from other seeds in the steps, from torchsde's tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..samplers.noise import Draw, ImageNoise, to_device
from ..samplers.noise_paths import TorchsdeNoise


class BatchNoise(ImageNoise):
    """ImageNoise [count, *shape] that one generator draws in one go, as ComfyUI does: image k depends on the count."""

    def __init__(self, seed: int, count: int, shape: Sequence[int], **more: Any) -> None:
        super().__init__([seed], shape, **more)
        self.count = count

    def next(self) -> Tensor:
        self.drawn += 1
        noise = self._draws[0]((self.count, *self.shape))
        return to_device(noise, self.device, self.dtype)

    def each(self, make: Callable[[Draw], Tensor]) -> Tensor:
        self.drawn += 1
        return to_device(
            torch.stack([make(self._draws[0]) for _ in range(self.count)]), self.device, self.dtype
        )

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "count": self.count}


class BatchTree(TorchsdeNoise):
    """One tree for a whole batch [count, *shape]."""

    def __init__(
        self, seed: int, count: int, shape: Sequence[int], sigmas: Sequence[float], **more: Any
    ) -> None:
        super().__init__([seed], (count, *shape), sigmas, **more)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return super().__call__(sigma, sigma_next)[0]


class EagerNoise:
    """Noise that is drawn once a step, be it used or not."""

    def __init__(self, images: ImageNoise, sigmas: Sequence[float]) -> None:
        self.images, self.sigmas = images, tuple(sigmas)
        self.first = images.drawn

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        step = min(range(len(self.sigmas) - 1), key=lambda number: abs(self.sigmas[number] - sigma))
        noise = self.images.next()
        while self.images.drawn <= self.first + step:
            noise = self.images.next()
        return noise

    @property
    def description(self) -> dict[str, Any]:
        """As ImageNoise's."""
        return {**self.images.description, "eager": True}
