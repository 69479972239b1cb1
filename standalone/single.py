"""Sigmas as k-diffusion computes them, in single precision: which of two places a Brownian tree is asked at.

A tree of torchsde rounds its times to 6 digits, so where a time is in doubt by its last bits, its increments are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..samplers import NoiseLevels
from ..samplers.levels import DiscreteLevels

Options = Mapping[str, Any]


class Table:
    """The training levels in single precision, ascending, and their logarithms.

    Args:
        by_ratio: computed from alphas_cumprod in single precision (k-diffusion), else rounded (ComfyUI).
    """

    def __init__(self, levels: NoiseLevels, by_ratio: bool) -> None:
        double = torch.tensor(levels.sigmas, dtype=torch.float64)
        self.sigmas, self.logs = double.float(), double.log().float()
        self.by_ratio = by_ratio and isinstance(levels, DiscreteLevels)
        if self.by_ratio:
            kept = (1 / (1 + double**2)).float()
            self.sigmas = ((1 - kept) / kept) ** 0.5
            self.logs = self.sigmas.log()

    def at(self, times: Tensor) -> Tensor:
        """log sigma linear between entries."""
        low, high, share = times.floor().long(), times.ceil().long(), times.frac()
        return ((1 - share) * self.logs[low] + share * self.logs[high]).exp()

    def each(self, times: Tensor) -> Tensor:
        """The same one by one, whose last bits are others than those of many at once."""
        return torch.stack([self.at(time) for time in times])

    def timestep(self, single: float) -> float:
        """The whole timestep whose log sigma is nearest."""
        return float((torch.tensor([single]).log() - self.logs[:, None]).abs().argmin(dim=0).item())


def singles(sigmas: Sequence[float], name: str, options: Options, table: Table) -> list[float]:
    """`sigmas` of the schedule of that name, each as it comes out in single precision."""
    count = len(sigmas) - (sigmas[-1] == 0.0)
    rule = RULES.get(name.partition("@")[0])
    if rule is None or len(sigmas) == count:
        return [_nearest(sigma, table.sigmas) for sigma in sigmas]
    low, high = (
        options.get(end) or table.sigmas[place].item() for end, place in (("sigma_min", 0), ("sigma_max", -1))
    )
    return [*rule(count, low, high, options, table).tolist(), 0.0]


def _karras(n: int, low: float, high: float, options: Options, table: Table) -> Tensor:
    rho = options.get("rho", 7.0)
    first, last = high ** (1 / rho), low ** (1 / rho)
    return (first + torch.linspace(0, 1, n) * (last - first)) ** rho


def _exponential(n: int, low: float, high: float, options: Options, table: Table) -> Tensor:
    return torch.linspace(math.log(high), math.log(low), n).exp()


def _polyexponential(n: int, low: float, high: float, options: Options, table: Table) -> Tensor:
    ramp = torch.linspace(1, 0, n) ** options.get("rho", 1.0)
    return torch.exp(ramp * (math.log(high) - math.log(low)) + math.log(low))


def _normal(n: int, low: float, high: float, options: Options, table: Table) -> Tensor:
    times = torch.linspace(len(table.sigmas) - 1, 0, n)
    return table.at(times) if table.by_ratio else table.each(times)


def _sgm_uniform(n: int, low: float, high: float, options: Options, table: Table) -> Tensor:
    return table.each(torch.linspace(len(table.sigmas) - 1, 0, n + 1)[:-1])


RULES: dict[str, Callable[[int, float, float, Options, Table], Tensor]] = {
    "karras": _karras,
    "exponential": _exponential,
    "polyexponential": _polyexponential,
    "normal": _normal,
    "sgm_uniform": _sgm_uniform,
}


def _nearest(sigma: float, entries: Tensor) -> float:
    """The entry that `sigma` is a rounding of, or itself in single precision."""
    near = entries[(entries - sigma).abs().argmin()].item()
    return near if math.isclose(near, sigma, rel_tol=1e-6) else torch.tensor(sigma).item()


def places(
    known: Sequence[float], through_log: bool = False, fractions: bool = False
) -> Callable[[float], float]:
    """sigma -> itself in single precision, by the single-precision sigmas of the walk.

    Args:
        through_log: as exp(log sigma), as k-diffusion's DPM++ SDE asks its tree.
        fractions: one between two of the walk is at a round fraction of their way in log sigma, as its middle.
    """
    rising = sorted(sigma for sigma in known if sigma > 0.0)

    def place(sigma: float) -> float:
        at = bisect_left(rising, sigma)
        near = [
            value for value in rising[max(at - 1, 0) : at + 1] if math.isclose(value, sigma, rel_tol=1e-5)
        ]
        if fractions and not near and 0 < at < len(rising):
            return min(max(_between(rising[at], rising[at - 1], sigma), rising[0]), rising[-1])
        single = torch.tensor(near[0] if near else sigma)
        value = single.log().exp().item() if through_log else single.item()
        return min(max(value, rising[0]), rising[-1]) if fractions else value

    return place


def _between(above: float, below: float, sigma: float) -> float:
    first, last = (torch.tensor(value).log().neg() for value in (above, below))
    share = (math.log(above) - math.log(sigma)) / (math.log(above) - math.log(below))
    return (first + round(share, 5) * (last - first)).neg().exp().item()
