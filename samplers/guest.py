"""Driving a function in k-diffusion's calling convention: it holds the loop, so we act inside the model it is given.

What a walk promises holds for it too: noise image by image, NaN caught, one callback a step. It reads its sigmas off
tensors, so on an accelerator it waits for the device, as it does at home.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..core.errors import OptionError
from .drive import Callback, Denoise, drive
from .exploding import exploded
from .finite import FiniteWatch, NonFiniteError
from .foreign import ForeignSpec
from .levels import NoiseLevels
from .model import KDiffusionModel, step_of
from .spec import Noise, Run, SamplerSpec


def walk(sampler: SamplerSpec, denoise: Denoise, x: Tensor, sigmas: Sequence[float], **more: Any) -> Tensor:
    """`drive_function` for a foreign sampler, `drive` for ours; the arguments are those of both."""
    run = drive_function if isinstance(sampler, ForeignSpec) else drive
    return run(sampler, denoise, x, sigmas, **more)  # type: ignore[arg-type]


@torch.no_grad()
def drive_function(
    sampler: ForeignSpec,
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    levels: NoiseLevels,
    noise: Noise | None = None,
    options: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """`drive` for a function. A walk of one without `sigmas` ends at the last sigma above 0.

    What it draws with its noise_sampler or with torch.randn_like comes from `noise`. Anything else it draws is
    seeded by the noise's first seed, so that it is the same again, but not image by image.

    Raises as `drive` does, OptionError for sigmas that differ within the batch and for a result that is no latent
    of x's shape, and NonFiniteError for one with NaN or infinity.
    """
    run = sampler.run(sigmas, levels, noise, options)
    if levels.is_flow and sampler.exploding:
        again = partial(drive_function, sampler, options=options)
        return exploded(again, denoise, x, run.sigmas, levels=levels, noise=noise, callback=callback)
    return _Guest(sampler, run, denoise, callback).walk(x, noise, options or {})


class _Guest:
    """One walk of a function."""

    def __init__(self, sampler: ForeignSpec, run: Run, denoise: Denoise, callback: Callback | None) -> None:
        self.sampler, self.run, self.denoise, self.callback = sampler, run, denoise, callback
        self.names = inspect.signature(sampler.function).parameters
        self.model = KDiffusionModel(self._answer, run.levels, run.sigmas)
        self.watch = FiniteWatch(len(run.sigmas) - 1)
        self.told = -1
        self.speaks = False  # whether it has called its callback
        self.unsaid: tuple[int, Tensor, float, Tensor] | None = None
        self.sigma = run.sigmas[0]
        self.draws: _ImageNoise | None = None

    def walk(self, x: Tensor, noise: Noise | None, given: Mapping[str, Any]) -> Tensor:
        """Call the function with what its signature asks for."""
        options = {name: getattr(self.run, name) for name in given}
        self.draws = None if noise is None else _ImageNoise(lambda: noise(*self._step()), x.shape)
        with _seeded(x.device, noise), self.draws or nullcontext():
            end = self.sampler.function(self.model, x.clone(), **self._arguments(x, noise), **options)
        self.watch.finish()
        self._say(len(self.run.sigmas))
        return self._checked(end[0] if isinstance(end, tuple) else end, x)

    def _checked(self, end: Any, x: Tensor) -> Tensor:
        """What the function returned, if it can be the latent that x has become."""
        where = f"sampler {self.sampler.name}"
        if not isinstance(end, Tensor):
            raise OptionError(f"it returned {type(end).__name__}", where, "a latent")
        if end.shape != x.shape:
            raise OptionError(
                f"it returned shape {tuple(end.shape)}", where, f"{tuple(x.shape)}, the latent's"
            )
        if not end.is_meta and not end.isfinite().all().item():
            todo = "the model's answers were finite: look into the function, often its step to sigma 0"
            raise NonFiniteError("it returned NaN or infinity", where, "finite numbers", todo)
        return end

    def _arguments(self, x: Tensor, noise: Noise | None) -> dict[str, Any]:
        positive = [sigma for sigma in self.run.sigmas if sigma > 0.0]
        known = {
            "sigmas": torch.tensor(self.run.sigmas, dtype=x.dtype, device=x.device),
            "sigma_min": positive[-1],
            "sigma_max": positive[0],
            "n": len(self.run.sigmas) - 1,
            "extra_args": {},
            "callback": self._tell,
            "disable": True,
            "noise_sampler": None if noise is None else lambda a, b: noise(float(a), float(b)),
        }
        return {name: value for name, value in known.items() if name in self.names}

    def _answer(self, x: Tensor, sigma: float, **extra: Any) -> Tensor:
        """One evaluation."""
        self.sigma = sigma
        step = step_of(self.run.sigmas, sigma)
        with self.draws.paused() if self.draws else nullcontext():
            self._say(step)
            denoised = self.denoise(x, sigma, **extra)
        self.watch.see(denoised, step, sigma)
        if self.unsaid is None and step > self.told:
            self.unsaid = (step, x, sigma, denoised)
        return denoised.to(x.dtype)

    def _say(self, step: int) -> None:
        """Before `step`: tell of the last one, whose first evaluation was kept, where the function does not speak."""
        if self.unsaid and self.unsaid[0] < step:
            if not self.speaks:
                self._report(*self.unsaid)
            self.unsaid = None

    def _step(self) -> tuple[float, float]:
        at = step_of(self.run.sigmas, self.sigma)
        return self.run.sigmas[at], self.run.sigmas[at + 1]

    def _tell(self, info: Mapping[str, Any]) -> None:
        """The function's own callback. One without `sigmas` counts steps of its own: they are placed by sigma."""
        self.speaks = True
        sigma = self.model.exact(float(info.get("sigma_hat", info.get("sigma", self.sigma))))
        counted = "sigmas" in self.names and "i" in info
        step = int(info["i"]) if counted else step_of(self.run.sigmas, sigma)
        self._report(step, info["x"], sigma, info["denoised"])

    def _report(self, step: int, x: Tensor, sigma: float, denoised: Tensor) -> None:
        if self.callback is None or step <= self.told:
            return
        self.told = step
        sigmas = {"sigma": self.run.sigmas[step], "sigma_next": self.run.sigmas[step + 1], "sigma_hat": sigma}
        self.callback({"i": step, "x": x, "denoised": denoised, **sigmas})


class _ImageNoise(TorchFunctionMode):
    """While it is on, torch.randn_like of a latent is `draw()`: noise image by image for a function that draws."""

    def __init__(self, draw: Callable[[], Tensor], shape: torch.Size) -> None:
        super().__init__()
        self.draw, self.shape = draw, shape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randn_like and args and args[0].shape == self.shape:
            return self.draw().to(args[0])
        return func(*args, **(kwargs or {}))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Off during a model evaluation, whose every operation it would see."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()


@contextmanager
def _seeded(device: torch.device, noise: Any) -> Iterator[None]:
    """Torch's own generators, seeded by the first image and put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(getattr(noise, "seeds", [0])[0] % 2**63)
        yield
