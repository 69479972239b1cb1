"""Where noise comes from: a generator per image, so that image k of a batch gets what its seed gets alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError, nearest
from .philox import PhiloxGenerator

Shape = tuple[int, ...]
Draw = Callable[[Shape], Tensor]
SEED_LIMIT = 2**64


def _torch_draw(seed: int, device: torch.device) -> Draw:
    generator = torch.Generator(device).manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator, device=device, dtype=torch.float32)


def _cpu(seed: int, device: torch.device) -> Draw:
    return _torch_draw(seed, torch.device("cpu"))


def _philox(seed: int, device: torch.device) -> Draw:
    generator = PhiloxGenerator(seed)
    return lambda shape: torch.from_numpy(generator.randn(shape))


# cpu: the same on every machine; device: torch.randn of the latent's device; nv: as on an NVIDIA card
KINDS: dict[str, Callable[[int, torch.device], Draw]] = {"cpu": _cpu, "device": _torch_draw, "nv": _philox}


def noise_kinds() -> list[str]:
    """The names ImageNoise takes as `kind`."""
    return list(KINDS)


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list. Raises OptionError unless each is an integer from 0 to 2^64 - 1."""
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        raise OptionError(f"seeds {seeds!r:.80}", expected="a list of integers, one for each image")
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
        if not isinstance(shape, Sequence):
            raise OptionError(f"shape {shape!r:.80}", expected="the sizes of one image's latent")
        self.seeds, self.shape, self.kind = check_seeds(seeds), tuple(shape), kind
        self.device, self.dtype = torch.device(device), dtype
        self._draws = [KINDS[kind](seed, self.device) for seed in self.seeds]
        self.drawn = 0
        for _ in range(skip):
            self.next()

    def next(self) -> Tensor:
        """The next noise of every image."""
        return self.each(lambda draw: draw(self.shape))

    def each(self, make: Callable[[Draw], Tensor]) -> Tensor:
        """`make` of every image's generator, which gives unit normal numbers of any shape."""
        self.drawn += 1
        return to_device(torch.stack([make(draw) for draw in self._draws]), self.device, self.dtype)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.next()

    @property
    def description(self) -> dict[str, Any]:
        """What makes the same source, as it stands now, in JSON's types; a saved walk keeps it."""
        where = {"device": self.device.type} if self.kind == "device" else {}
        made = {"seeds": self.seeds, "kind": self.kind, "skip": self.drawn, **where}
        return {"type": "gaussian", "options": {}, **made}
