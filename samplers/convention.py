"""k-diffusion's calling convention: every sampler as sample(model, x, sigmas, extra_args, callback, ...)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .drive import drive, find_sampler
from .levels import NoiseLevels
from .noise_types import adds_noise
from .spec import Noise, SamplerSpec

LevelsOf = Callable[[Any, list[float]], NoiseLevels]
NoiseOf = Callable[[Any, Tensor, list[float], NoiseLevels, Mapping[str, Any]], Noise]


def levels_of_model(model: Any, sigmas: list[float]) -> NoiseLevels:
    """The model's own `levels` if it has them, else variance exploding over the range of `sigmas`."""
    levels = getattr(model, "levels", None)
    if isinstance(levels, NoiseLevels):
        return levels
    positive = [sigma for sigma in sigmas if sigma > 0]
    return NoiseLevels.edm(min(positive) * 0.999, max(positive) * 1.001, sigma_data=1.0)


def k_diffusion_function(
    sampler: str | SamplerSpec, levels_of: LevelsOf = levels_of_model, noise_of: NoiseOf | None = None
) -> Callable[..., Tensor]:
    """sample(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None, **options).

    `model(x, sigma, **extra_args)` gets sigma as a tensor [b] and answers denoised. Without `noise_sampler`,
    noise is torch.randn_like's, as in k-diffusion. Hosts read the options off the function's signature.

    Args:
        levels_of: (model, sigmas) -> NoiseLevels, for hosts whose models carry their process elsewhere.
        noise_of: (model, x, sigmas, levels, extra_args) -> noise of the walk, for hosts that have seeds; not asked
            where the options leave no noise to add.
    """
    spec = find_sampler(sampler)

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        noise_sampler: Callable[..., Tensor] | None = None,
        **options: Any,
    ) -> Tensor:
        # the one read of the device, before the first step
        values: list[float] = sigmas.tolist()
        extra = dict(extra_args or {})

        def denoise(x: Tensor, sigma: float) -> Tensor:
            told = torch.full((x.shape[0],), sigma, dtype=sigmas.dtype, device=x.device)
            return model(x, told, **extra)

        levels = levels_of(model, values)
        if noise_sampler is not None:
            noise = _told_in_tensors(noise_sampler)
        elif noise_of is not None and adds_noise(spec, options):
            noise = noise_of(model, x, values, levels, extra)
        else:
            noise = _like(x)

        with _bar(len(values) - 1, disable) as tell:

            def each(state: dict[str, Any]) -> None:
                tell()
                if callback is not None:
                    callback(state)

            return drive(
                spec,
                denoise,
                x,
                values,
                levels=levels,
                noise=noise,
                options=options,
                callback=each,
            )

    sample.__name__ = sample.__qualname__ = f"sample_{spec.name}"
    sample.__doc__ = spec.method.__doc__
    sample.__signature__ = _signature(sample, spec)  # type: ignore[attr-defined]
    return sample


def _told_in_tensors(noise_sampler: Callable[..., Tensor]) -> Noise:
    return lambda sigma, sigma_next: noise_sampler(torch.tensor(sigma), torch.tensor(sigma_next))


def _like(x: Tensor) -> Noise:
    return lambda sigma, sigma_next: torch.randn_like(x)


def _signature(sample: Callable[..., Tensor], spec: SamplerSpec) -> inspect.Signature:
    fixed = list(inspect.signature(sample).parameters.values())[:-1]
    named = [
        inspect.Parameter(o.name, inspect.Parameter.KEYWORD_ONLY, default=o.default) for o in spec.options
    ]
    return inspect.Signature([*fixed, *named])


class _bar:
    """k-diffusion's progress bar where tqdm is there: `disable` None shows it on a terminal only."""

    def __init__(self, total: int, disable: bool | None) -> None:
        self.bar: Any = None
        if disable is not True:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, disable=disable)

    def __enter__(self) -> Callable[[], None]:
        return self._tell

    def _tell(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def __exit__(self, *raised: object) -> None:
        if self.bar is not None:
            self.bar.close()
