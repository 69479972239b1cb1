"""A sampler as the function a host calls: k-diffusion's convention, with the host's levels and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..samplers.convention import LevelsOf, NoiseOf, k_diffusion_function
from ..samplers.levels import NoiseLevels
from ..samplers.spec import SamplerSpec, Value, resolve
from .calibrations import warn_of_kind
from .offers import SamplerOffer


def host_function(
    offer: SamplerOffer, levels_of: LevelsOf, noise_of: NoiseOf, chosen: Mapping[str, Value] | None = None
) -> Callable[..., Tensor]:
    """sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options).

    Options of the call win over `chosen`, those over the offer's preset, those over the sampler's own defaults. Fewer
    than two sigmas make no step: x comes back, as a host's own samplers do it. `sigmas` is not written to.

    Raises OptionError for a chosen option that the sampler does not have.
    """
    spec = offer.spec
    resolve(spec.options, chosen, f"sampler {spec.name}")
    inner = k_diffusion_function(spec, _watched(spec, levels_of), noise_of)
    before = {**offer.preset, **(chosen or {})}

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        **options: Any,
    ) -> Tensor:
        if len(sigmas) < 2:
            return x
        return inner(model, x, sigmas, extra_args, callback, disable, **{**before, **options})

    sample.__name__ = sample.__qualname__ = f"sample_{offer.name}"
    sample.__doc__ = spec.method.__doc__
    return sample


def _watched(spec: SamplerSpec, levels_of: LevelsOf) -> LevelsOf:
    """`levels_of`, which tells where the model is not of the kind that the sampler was fitted to."""

    def levels(model: Any, sigmas: list[float]) -> NoiseLevels:
        found = levels_of(model, sigmas)
        warn_of_kind(spec, found)
        return found

    return levels
