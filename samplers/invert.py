"""Inversion: a deterministic method walked up, from a picture to the noise that it would come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..core.errors import OptionError
from .drive import Callback, Denoise, drive, find_sampler
from .levels import NoiseLevels
from .restart import follow
from .spec import Method, Run, SamplerSpec, Value, Walker

# methods that walk between the first and the last of the sigmas as they like, and only down
OWN_STEPS = ("dpm_fast",)


def rising(sigmas: Sequence[float], levels: NoiseLevels) -> list[float]:
    """`sigmas` as floats. Raises OptionError unless two or more, finite, from 0 and rising (flow: to 1)."""
    values = [float(sigma) for sigma in sigmas]
    if len(values) < 2:
        raise OptionError(f"{len(values)} sigmas make no step", "inversion", "two or more")
    top = 1.0 if levels.is_flow else math.inf
    fine = all(0.0 <= value <= top and math.isfinite(value) for value in values)
    if not fine or any(after <= before for before, after in pairwise(values)):
        expected = f"rising sigmas from 0 up{' to 1' if levels.is_flow else ''}"
        raise OptionError(
            f"sigmas {values[0]:g} ... {values[-1]:g}", "inversion", expected, "turn the list around"
        )
    return values


def _stale(run: Run, x: Tensor, sigma: float, sigma_up: float) -> Method:
    """A step of DDIM upwards, with eps as the network gives it for sigma_up on what it sees at sigma.

    What the network sees is c_in x, so at sigma_up the latent is x times c_in(sigma) / c_in(sigma_up).
    """
    levels = run.levels
    stretch = levels.scale_input(sigma) / levels.scale_input(sigma_up)
    seen = x * stretch
    denoised = yield seen, sigma_up
    # eps = (seen - alpha_up denoised) / sigma_up; x_up = alpha_up / alpha (x - sigma eps) + sigma_up eps
    scale = levels.alpha(sigma_up) / levels.alpha(sigma)
    eps = (sigma_up - scale * sigma) / sigma_up
    return (seen * (scale / stretch + eps)).sub_(denoised, alpha=eps * levels.alpha(sigma_up))


def ddim_up(run: Run, x: Tensor) -> Method:
    """x_up = alpha_up x0 + sigma_up eps with eps of the level that the step leads to (arXiv:2010.02502 sec. 4.3)."""
    for sigma, sigma_up in run.steps():
        x = yield from _stale(run, x, sigma, sigma_up)
    return x


def _up(inner: SamplerSpec) -> Walker:
    def up(run: Run, x: Tensor) -> Method:
        """The method's own steps, upwards.

        A first step from sigma 0, where no model answers, is DDIM's; a last one to alpha 0, where lambda ends, Euler's.
        """
        sigmas, levels = run.sigmas, run.levels
        first = 1 if sigmas[0] == 0.0 else 0
        last = len(sigmas) - (2 if levels.alpha(sigmas[-1]) == 0.0 else 1)
        if first:
            run.index = 0
            x = yield from _stale(run, x, sigmas[0], sigmas[1])
        if first < last:
            x = yield from follow(run, x, inner, sigmas[first : last + 1], first)
        if first <= last < len(sigmas) - 1:
            run.index = last
            denoised = yield x, sigmas[last]
            decay, gain = levels.exact(sigmas[last], sigmas[-1])
            x = (x * decay).add_(denoised, alpha=gain)
        return x

    return up


@dataclass(frozen=True)
class InverseSpec(SamplerSpec):
    """A deterministic method whose runs rise, to drive or to step; its noise is off.

    Attributes:
        off: the option that would turn the noise on.
    """

    off: str | None = None

    def checked(self, sigmas: Sequence[float], levels: NoiseLevels) -> list[float]:
        """As SamplerSpec's, for rising sigmas."""
        return rising(sigmas, levels)

    def settled(self) -> dict[str, Value]:
        """No noise."""
        return {} if self.off is None else {self.off: 0.0}


def inverse(sampler: str | SamplerSpec) -> InverseSpec:
    """The upward form of a method: of `ddim` DDIM inversion, of any other its own steps.

    Raises OptionError for a method that cannot do without noise, solves no ODE or chooses its own steps.
    """
    spec = find_sampler(sampler)
    own_steps = spec.adaptive or spec.name in OWN_STEPS
    if spec.order == 0 or own_steps or (spec.stochastic and spec.noise_option is None):
        raise OptionError(
            f"inversion by {spec.name}",
            expected="a deterministic method that walks the given sigmas",
            todo="ddim is usual",
        )
    taken = {field.name: getattr(spec, field.name) for field in fields(SamplerSpec)}
    taken.update(
        name=f"{spec.name}_inverse",
        label=f"{spec.label} Inverse",
        method=ddim_up if spec.name == "ddim" else _up(spec),
        aliases=(),
        stochastic=False,
        noise_option=None,
        options=tuple(option for option in spec.options if option.name != spec.noise_option),
    )
    return InverseSpec(**taken, off=spec.noise_option)


def invert(
    sampler: str | SamplerSpec,
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk x up `sigmas`: the latent at the last of them whose way down with the same method ends at x.

    Args:
        denoise: (x, sigma) -> denoised, as `drive` has it.
        x: the latent at sigmas[0]: the picture's own where that is 0 (or so small that nobody sees the noise).
        sigmas: rising, as `schedule(...)[::-1]`.

    Raises:
        OptionError: as `drive` and `inverse` do, and for sigmas that do not rise.
        NonFiniteError: as `drive` does.
    """
    return drive(inverse(sampler), denoise, x, sigmas, levels=levels, options=options, callback=callback)
