"""Where noise comes from: a generator per image, so that image k of a batch gets what its seed gets alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest
from .philox import PhiloxGenerator
from .spec import SamplerSpec

Draw = Callable[[], Tensor]
SEED_LIMIT = 2**64


def _torch_draw(seed: int, shape: tuple[int, ...], device: torch.device) -> Draw:
    generator = torch.Generator(device).manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, device=device, dtype=torch.float32)


def _cpu(seed: int, shape: tuple[int, ...], device: torch.device) -> Draw:
    return _torch_draw(seed, shape, torch.device("cpu"))


def _philox(seed: int, shape: tuple[int, ...], device: torch.device) -> Draw:
    generator = PhiloxGenerator(seed)
    return lambda: torch.from_numpy(generator.randn(shape))


# cpu: the same on every machine; device: torch.randn of the latent's device; nv: as on an NVIDIA card
KINDS: dict[str, Callable[[int, tuple[int, ...], torch.device], Draw]] = {
    "cpu": _cpu,
    "device": _torch_draw,
    "nv": _philox,
}


def noise_kinds() -> list[str]:
    """The names ImageNoise takes as `kind`."""
    return list(KINDS)


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list. Raises OptionError unless each is an integer from 0 to 2^64 - 1."""
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
            raise OptionError(f"seed {seed!r}", expected="an integer from 0 to 2^64 - 1")
    return list(seeds)


def to_device(noise: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`noise` on `device`; from pinned memory on CUDA, where an ordinary copy would wait for the device."""
    if device.type == "cuda" and noise.device.type == "cpu":
        return noise.pin_memory().to(device, non_blocking=True).to(dtype)
    return noise.to(device=device, dtype=dtype)


class ImageNoise:
    """Unit normal noise [len(seeds), *shape], a generator per seed; each call draws the next.

    The first draw is the start noise, those after it the step noise (`noise=` of `drive`), as in the web UIs.

    Args:
        shape: of one image's latent, (c, h, w).
        kind: "cpu", "device" or "nv".
        skip: draws to leave out first: 1 where the start noise came from another source.

    Raises:
        OptionError: unknown kind, or a seed that is no integer from 0 to 2^64 - 1.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        *,
        kind: str = "cpu",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        skip: int = 0,
    ) -> None:
        if kind not in KINDS:
            raise OptionError(f"unknown noise kind {kind!r}", todo=nearest(kind, KINDS))
        self.seeds, self.shape = check_seeds(seeds), tuple(shape)
        self.device, self.dtype = torch.device(device), dtype
        self._draws = [KINDS[kind](seed, self.shape, self.device) for seed in self.seeds]
        for _ in range(skip):
            self.next()

    def next(self) -> Tensor:
        """The next noise of every image."""
        return to_device(torch.stack([draw() for draw in self._draws]), self.device, self.dtype)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.next()


class BrownianNoise:
    """(W(b) - W(a)) / sqrt(|b - a|): unit noise from one Brownian path over sigma per seed.

    The path is the same whatever the steps, so a finer schedule refines a picture instead of changing it. It
    is made on the CPU, the same on every machine.

    Args:
        sigma_max: no sigma above it will be asked for. The path is that of the next power of two, so sigmas that
            differ a little share it.

    Raises:
        OptionError: torchsde is missing, a bad seed, or a sigma_max that is not above 0; when called, sigmas
            that are equal or out of range.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        sigma_max: float,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 0.0 < sigma_max < math.inf:
            raise OptionError(f"sigma_max {sigma_max:g}", expected="a finite number above 0")
        self.sigma_max = 2.0 ** math.ceil(math.log2(sigma_max))
        self.device, self.dtype = torch.device(device), dtype
        tree, start = _brownian_tree(), torch.zeros(tuple(shape), dtype=torch.float32)
        self._trees = [tree(t0=0.0, w0=start, t1=self.sigma_max, entropy=seed) for seed in check_seeds(seeds)]

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        low, high = sorted((sigma, sigma_next))
        if not 0.0 <= low < high <= self.sigma_max:
            raise OptionError(
                f"no Brownian path from sigma {sigma:g} to {sigma_next:g}",
                expected=f"two sigmas from 0 to {self.sigma_max:g}",
            )
        sign = 1.0 if sigma < sigma_next else -1.0
        path = torch.stack([tree(low, high) for tree in self._trees]) * (sign / math.sqrt(high - low))
        return to_device(path, self.device, self.dtype)


def step_noise(spec: SamplerSpec, images: ImageNoise, sigmas: Sequence[float]) -> ImageNoise | BrownianNoise:
    """The noise of a walk along `sigmas`: `images` itself, or Brownian paths of its seeds where the sampler asks."""
    if not spec.brownian:
        return images
    return BrownianNoise(images.seeds, images.shape, sigmas[0], device=images.device, dtype=images.dtype)


def _brownian_tree() -> Any:
    try:
        from torchsde import BrownianTree
    except ImportError:
        raise OptionError("Brownian noise needs torchsde", todo="pip install torchsde") from None
    return BrownianTree
