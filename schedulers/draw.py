"""The noise of one step: given, or drawn from the caller's generators in the caller's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from ..core.errors import OptionError
from ..samplers.noise import to_device
from ..samplers.noise_paths import BrownianNoise
from ..samplers.spec import Noise

Generators = Generator | Sequence[Generator] | None


def randn(shape: torch.Size, generator: Generators, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Unit noise on `device`; a generator draws on its own device, a list of them image by image."""
    if isinstance(generator, Sequence):
        if len(generator) not in (1, shape[0]):
            raise OptionError(
                f"{len(generator)} generators for a batch of {shape[0]}", expected="one, or one an image"
            )
        if len(generator) == 1:
            return randn(shape, generator[0], device, dtype)
        one = torch.Size((1, *shape[1:]))
        return torch.cat([randn(one, each, device, dtype) for each in generator])
    place = device if generator is None else generator.device
    if place.type != device.type and place.type != "cpu":
        raise OptionError(f"a generator on {place}", expected=f"one on {device} or on the CPU")
    return to_device(torch.randn(shape, generator=generator, device=place, dtype=dtype), device, dtype)


class StepNoise:
    """Where a walk's noise comes from; each step says it anew with `set`.

    Attributes:
        factor: multiplies the noise of this step.
        path: noise of an interval, (sigma, sigma_next) -> noise, in place of all else.
    """

    def __init__(self) -> None:
        self.path: Noise | None = None
        self.factor: Tensor | None = None
        self._draw: Callable[[], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy keeps the path; what one step drew from is said anew before the next."""
        path = self.path
        if isinstance(path, BrownianNoise):  # of its seeds alone, as nothing here walks up
            path = partial(
                BrownianNoise, path.seeds, path.shape, path.levels, device=path.device, dtype=path.dtype
            )
        return {"path": path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        path = state["path"]
        self.path = path() if isinstance(path, partial) and path.func is BrownianNoise else path
        self.factor = self._draw = None

    def set(
        self, like: Tensor, dtype: torch.dtype, generator: Generators = None, given: Tensor | None = None
    ) -> None:
        """Noise of `dtype` for the shape and device of `like`: `given`, or drawn from `generator` when asked for."""
        if given is not None and generator is not None:
            raise OptionError("both generator= and variance_noise=", "step", "one of them")
        self.factor = None
        if given is not None:
            self._draw = lambda: given.to(like)
        else:
            self._draw = lambda: randn(like.shape, generator, like.device, dtype).to(like.dtype)

    def draw_now(self) -> None:
        """Draw this step's noise, whether it will be asked for or not."""
        noise = self._drawn()
        self._draw = lambda: noise

    def _drawn(self) -> Tensor:
        assert self._draw is not None  # `set` comes before every step
        return self._draw()

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        noise = self._drawn() if self.path is None else self.path(sigma, sigma_next)
        return noise if self.factor is None else noise * self.factor
