"""Step noise that is the increments of one Brownian path per image, so that the steps' number does not choose it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .brownian import Share, SharePath
from .levels import NoiseLevels
from .noise import KINDS, ImageNoise, check_seeds, to_device
from .noise_types import NOISE_TYPES, NoiseType, Values
from .spec import Noise


class BrownianNoise:
    """(W(u_next) - W(u)) / sqrt(u_next - u), u = alpha^2 / (alpha^2 + sigma^2), from one path per seed.

    On data of unit variance the diffusion SDE (`levels.sde` at eta 1) puts on x alpha / (alpha^2 + sigma^2) exactly an
    increment of W over this u, on variance-exploding levels and on rectified flow. So the same picture comes of more
    steps, only finer. Noise put back (sigma_next above sigma) is no part of the way down: each time it is drawn anew.

    The path is made on the CPU, the same on every machine and for every schedule.

    Raises:
        OptionError: a bad seed; when called, sigmas that are equal or below 0.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        levels: NoiseLevels,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seeds, self.shape, self.levels = check_seeds(seeds), tuple(shape), levels
        self.device, self.dtype = torch.device(device), dtype
        self._paths = [SharePath(seed, math.prod(self.shape)) for seed in self.seeds]

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        if sigma_next > sigma:
            noise = [path.fresh() for path in self._paths]
        else:
            if not 0.0 <= sigma_next < sigma:
                what = f"no Brownian path from sigma {sigma:g} to {sigma_next:g}"
                raise OptionError(what, expected="two sigmas from 0 up that differ")
            ends = self._share(sigma), self._share(sigma_next)
            noise = [path.step(*ends) for path in self._paths]
        images = torch.stack([torch.from_numpy(one) for one in noise])
        return to_device(images.view(-1, *self.shape), self.device, self.dtype)

    def _share(self, sigma: float) -> Share:
        signal = self.levels.alpha(sigma) ** 2
        return signal / (signal + sigma**2), sigma**2 / (signal + sigma**2)

    @property
    def description(self) -> dict[str, Any]:
        """As ImageNoise's."""
        return {"type": "brownian", "seeds": self.seeds}


class TorchsdeNoise:
    """k-diffusion's Brownian tree sampler, bit for bit: (W(sigma_next) - W(sigma)) / sqrt(sigma - sigma_next).

    Args:
        sigmas: of the walk; the tree is grown from the lowest above 0 to the highest, as hosts do.
        kind: the generator of the tree's numbers, as of `ImageNoise`; k-diffusion's own is "cpu".
        time: sigma -> its place in the tree; the sigma in single precision, as the hosts' are.

    Raises:
        OptionError: torchsde is missing, or a bad seed; when called, sigmas that are equal or outside the tree.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        sigmas: Sequence[float],
        *,
        kind: str = "cpu",
        time: Callable[[float], float] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        try:
            from torchsde import BrownianTree
        except ImportError:
            raise OptionError("this Brownian noise needs torchsde", todo="pip install torchsde") from None
        positive = [_single(sigma) for sigma in sigmas if sigma > 0.0]
        self.low, self.high = min(positive), max(positive)
        self.seeds, self.device, self.dtype = check_seeds(seeds), torch.device(device), dtype
        self.kind, self._time = kind, time or _single
        zero = torch.zeros(tuple(shape), dtype=torch.float32)
        with self._numbers():
            self._trees: list[Any] = [
                BrownianTree(t0=self.low, w0=zero, t1=self.high, entropy=seed) for seed in self.seeds
            ]

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        start, end = sorted((self._time(sigma), self._time(sigma_next)))
        if not self.low <= start < end <= self.high:
            what = f"no Brownian path from sigma {sigma:g} to {sigma_next:g}"
            raise OptionError(what, expected=f"two sigmas from {self.low:g} to {self.high:g}")
        # torchsde rounds the ends of its tree to 6 digits and warns where it clamps
        clamped = max(start, round(self.low, 6)), min(end, round(self.high, 6))
        with self._numbers():
            path = torch.stack([tree(*clamped) for tree in self._trees])
        sign = 1.0 if sigma < sigma_next else -1.0
        length = torch.tensor(end) - torch.tensor(start)
        return to_device(path * sign / length.sqrt(), self.device, self.dtype)

    @property
    def description(self) -> dict[str, Any]:
        """As ImageNoise's."""
        kind = {} if self.kind == "cpu" else {"kind": self.kind}
        return {"type": "brownian@torchsde", "seeds": self.seeds, **kind}

    @contextmanager
    def _numbers(self) -> Iterator[None]:
        """While it is on, torchsde's numbers are those of `kind`; torch's on the CPU are its own."""
        if self.kind == "cpu":
            yield
            return
        from torchsde._brownian import brownian_interval

        own = brownian_interval._randn
        brownian_interval._randn = self._randn
        try:
            yield
        finally:
            brownian_interval._randn = own

    def _randn(self, size: Any, dtype: torch.dtype, device: torch.device, seed: Any) -> Tensor:
        return KINDS[self.kind](int(seed), self.device)(tuple(size)).to(device, dtype)


def _single(sigma: float) -> float:
    """In single precision, as the hosts' sigmas are."""
    return torch.tensor(sigma, dtype=torch.float32).item()


def _brownian(images: ImageNoise, sigmas: Sequence[float], levels: NoiseLevels, options: Values) -> Noise:
    return BrownianNoise(images.seeds, images.shape, levels, device=images.device, dtype=images.dtype)


def _torchsde(images: ImageNoise, sigmas: Sequence[float], levels: NoiseLevels, options: Values) -> Noise:
    return TorchsdeNoise(images.seeds, images.shape, sigmas, device=images.device, dtype=images.dtype)


NOISE_TYPES.add(
    NoiseType(
        "brownian",
        _brownian,
        "Brownian",
        aliases=("brownian_tree",),
        doc="Increments of one path for each image, so that more steps refine a picture.",
    )
)
NOISE_TYPES.add(
    NoiseType(
        "brownian@torchsde",
        _torchsde,
        "Brownian tree of k-diffusion",
        doc="The tree over sigma that web UIs use, with torchsde's numbers.",
    )
)
