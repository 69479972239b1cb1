"""Rectified flow as a variance-exploding process: z = x / alpha = x0 + (sigma / alpha) noise.

A method that knows only x0 + sigma noise is so exact on flow, in the half-log-SNR that both share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .drive import Callback, Denoise
from .levels import NoiseLevels
from .spec import Noise


def exploded(
    walk: Callable[..., Tensor],
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    levels: NoiseLevels,
    noise: Noise | None,
    callback: Callback | None,
) -> Tensor:
    """Run `walk(denoise, z, sigmas, levels=, noise=, callback=)` in z.

    From sigma 1, where z is infinite, the first step is taken here: x_next = decay x + gain denoised.
    """
    table = {_ratio(sigma, levels): sigma for sigma in sigmas}

    def flow(ratio: float) -> float:
        return table.get(ratio, ratio / (1 + ratio))

    def denoise_z(z: Tensor, ratio: float, **extra: Any) -> Tensor:
        sigma = flow(ratio)
        return denoise(z * levels.alpha(sigma), sigma, **extra)

    def noise_z(ratio: float, ratio_next: float) -> Tensor:
        assert noise is not None  # not handed on without one
        return noise(flow(ratio), flow(ratio_next))

    def tell(state: dict[str, Any]) -> None:
        assert callback is not None
        sigma_hat = flow(state["sigma_hat"])
        names = {name: flow(state[name]) for name in ("sigma", "sigma_next")} | {"sigma_hat": sigma_hat}
        callback({**state, "i": state["i"] + skipped, "x": state["x"] * levels.alpha(sigma_hat), **names})

    skipped = int(levels.alpha(sigmas[0]) == 0.0)
    if skipped:
        x = _first(denoise, x, sigmas, levels, callback)
    ratios = [_ratio(sigma, levels) for sigma in sigmas[skipped:]]
    if len(ratios) < 2:
        return x
    z = walk(
        denoise_z,
        x / levels.alpha(sigmas[skipped]),
        ratios,
        levels=NoiseLevels.edm(min(r for r in ratios if r > 0.0) * 0.999, ratios[0] * 1.001, 1.0),
        noise=noise and noise_z,
        callback=callback and tell,
    )
    return z * levels.alpha(sigmas[-1])


def _first(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], levels: NoiseLevels, callback: Callback | None
) -> Tensor:
    denoised = denoise(x, sigmas[0])
    if callback is not None:
        at = {"sigma": sigmas[0], "sigma_next": sigmas[1], "sigma_hat": sigmas[0]}
        callback({"i": 0, "x": x, "denoised": denoised, **at})
    decay, gain = levels.exact(sigmas[0], sigmas[1])
    return (x * decay).add_(denoised, alpha=gain)


def _ratio(sigma: float, levels: NoiseLevels) -> float:
    alpha = levels.alpha(sigma)
    return sigma / alpha if alpha > 0.0 else math.inf
