"""How strongly the prompt pulls at each sigma of a walk: CFG++, and guidance only within an interval."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .guest import walk
from .levels import NoiseLevels
from .spec import SamplerSpec

Weight = Callable[[float], float]


@dataclass(frozen=True)
class Interval:
    """Where guidance acts (arXiv:2404.07724): sigmas from low to high, or a part of the steps."""

    low: float
    high: float
    share: bool

    @classmethod
    def read(cls, text: str) -> Interval:
        """`0.3-5.4` in sigma or `20%-80%` of the steps. Raises OptionError for anything else."""
        found = re.fullmatch(r"\s*([\d.]+)\s*(%?)\s*[-:,]\s*([\d.]+)\s*(%?)\s*", text)
        try:
            low, high = float(found[1]), float(found[3])  # type: ignore[index]
            share = {("%", "%"): True, ("", ""): False}[found[2], found[4]]  # type: ignore[index]
        except (TypeError, ValueError, KeyError):
            raise OptionError(
                f"cfg_interval {text!r}", expected="such as 0.3-5.4 in sigma or 20%-80%"
            ) from None
        if not low < high or (share and high > 100.0):
            raise OptionError(
                f"cfg_interval {text!r}", expected="the lower end first" if low >= high else "to 100%"
            )
        return cls(low, high, share)

    def limits(self, sigmas: Sequence[float]) -> tuple[float, float]:
        """(lowest, highest) sigma where it acts, ends included.

        Steps are told apart by sigma: those first to last are above where the last ends, up to where the first
        begins. What churn raises above the first sigma of all belongs to the first step.
        """
        if not self.share:
            return self.low, self.high
        steps = len(sigmas) - 1
        first, last = round(self.low / 100 * steps), round(self.high / 100 * steps)
        if last <= first:
            return math.inf, math.inf
        low = math.nextafter(sigmas[last], math.inf) if last < steps else 0.0
        return low, sigmas[first] if first > 0 else math.inf


def within(weight: Weight, interval: Interval, sigmas: Sequence[float]) -> Weight:
    """`weight` inside the interval, 1 (the prompt alone) outside."""
    low, high = interval.limits(sigmas)
    return lambda sigma: weight(sigma) if low <= sigma <= high else 1.0


def plus_plus(
    scale: float,
    sampler: SamplerSpec,
    sigmas: Sequence[float],
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
    begin: int = 0,
) -> Weight:
    """CFG++ (arXiv:2406.08070) as CFG whose weight depends on the step.

    It steps with the guided denoised D_u + scale (D_c - D_u) and the unconditional noise (x - alpha D_u) / sigma:

        x_next = alpha_next (D_u + scale (D_c - D_u)) + decay (x - alpha D_u) + noise.

    A sampler's step with a constant D is decay x + gain D + noise, gain = alpha_next - alpha decay, so the two are
    equal where D = D_u + w (D_c - D_u), w = scale alpha_next / gain. On variance-exploding levels without noise
    w = scale / (1 - sigma_next / sigma). Evaluations within a step get its w, but one at a sigma where another step
    begins gets that step's; the last step's, to sigma 0, is `scale`. The decays are the sampler's own, ancestral,
    churned and restarted steps included: they are measured. Where two steps begin at one sigma, as a restart from a
    level of the walk does, the weight goes by the order of the evaluations.

    Args:
        begin: how many evaluations of the walk are made already.

    Raises:
        OptionError: a sampler that chooses its own steps.
    """
    at, decays, within_step = _decays(sampler, sigmas, levels, options)
    alphas = [levels.alpha(sigma) for sigma in at]
    weights = [
        scale * alpha_next / (alpha_next - alpha * decay)
        for decay, (alpha, alpha_next) in zip(decays, pairwise(alphas), strict=True)
    ]
    return _by_step(at[:-1], weights, within_step, sampler.name, begin)


class InTurn:
    """A weight for each evaluation of a walk, told by its sigma and by what came before it.

    Asked for a sigma it gives the next evaluation's there; after the last of them the walk begins anew.
    """

    def __init__(self, evaluations: Sequence[tuple[float, float]], begin: int, name: str) -> None:
        self.evaluations, self.position, self.name = evaluations, begin, name

    def __call__(self, sigma: float) -> float:
        count = len(self.evaluations)
        for number in (*range(self.position, count), *range(count)):
            known, weight = self.evaluations[number]
            if math.isclose(known, sigma, rel_tol=1e-5):
                self.position = number + 1
                return weight
        what = f"cfg++ knows no step at sigma {sigma:g}"
        raise OptionError(what, f"sampler {self.name}", todo="use guidance cfg")


def _in_turn(
    at: Sequence[float], weights: Sequence[float], within_step: Sequence[tuple[float, int]]
) -> list[tuple[float, float]]:
    """(sigma, weight) of every evaluation: that of its step or, where the next begins at its sigma, of the next."""
    found = []
    for sigma, step in within_step:
        after = next((number for number in range(step, min(step + 2, len(at))) if at[number] == sigma), step)
        found.append((sigma, weights[after]))
    return found


def _by_step(
    at: Sequence[float],
    weights: Sequence[float],
    within_step: Sequence[tuple[float, int]],
    name: str,
    begin: int,
) -> Weight:
    """The weight of the step that evaluates a sigma, be they falling or not; between known ones of the step begun."""
    begins: dict[float, float] = {}
    for sigma, weight in zip(at, weights, strict=True):
        if not math.isclose(begins.setdefault(sigma, weight), weight, rel_tol=1e-6):
            return InTurn(_in_turn(at, weights, within_step), begin, name)
    known = {sigma: weights[step] for sigma, step in within_step} | begins
    falling = all(a > b for a, b in pairwise(at))
    negative = [-sigma for sigma in at]

    def weight_at(sigma: float) -> float:
        near = min(known, key=lambda value: abs(value - sigma))
        if math.isclose(near, sigma, rel_tol=1e-5):  # a sigma read off a tensor is a rounding of it
            return known[near]
        if not falling:
            raise OptionError(
                f"cfg++ knows no step at sigma {sigma:g}", f"sampler {name}", todo="use guidance cfg"
            )
        return weights[max(bisect_right(negative, -sigma) - 1, 0)]

    return weight_at


def _decays(
    sampler: SamplerSpec, sigmas: Sequence[float], levels: NoiseLevels, options: Mapping[str, Any] | None
) -> tuple[list[float], list[float], list[tuple[float, int]]]:
    """The sigma first evaluated in each step (and the last of all), the share of x that each step keeps, and
    (sigma, step) of every evaluation.

    A step is linear in x, denoised and noise, so a walk shows it where denoised is 0 and every step's noise goes to a
    place of its own in x: what was in one place before the step is compared with what is there after it.
    """
    if sampler.adaptive:
        raise OptionError(
            "cfg++ needs to know the steps beforehand",
            f"sampler {sampler.name}",
            todo="choose a sampler that does not choose its own steps, or guidance cfg",
        )
    at: list[float] = []
    begun: list[int] = []  # which evaluation each step begins with
    asked: list[float] = []
    kept: list[Tensor] = []
    places = torch.eye(len(sigmas) + 1, dtype=torch.float64)[:, None, None, None, :]

    def keep(state: Mapping[str, Any]) -> None:
        at.append(state["sigma_hat"])
        begun.append(max((n for n, sigma in enumerate(asked) if sigma == at[-1]), default=len(asked) - 1))
        kept.append(state["x"].flatten())

    def zero(x: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return torch.zeros_like(x)

    end = walk(
        sampler,
        zero,
        places[0],
        sigmas,
        levels=levels,
        noise=lambda sigma, sigma_next: places[len(at) + 1],
        options=options,
        callback=keep,
    )
    decays = [_ratio(before, after) for before, after in pairwise([*kept, end.flatten()])]
    if not all(map(math.isfinite, decays)):
        raise OptionError(
            "cfg++ does not go with this sampler", f"sampler {sampler.name}", todo="use guidance cfg"
        )
    within_step = [(sigma, max(bisect_right(begun, n) - 1, 0)) for n, sigma in enumerate(asked)]
    return [*at, sigmas[-1]], decays, within_step


def _ratio(before: Tensor, after: Tensor) -> float:
    place = before.abs().argmax()
    return (after[place] / before[place]).item() if before[place] else 0.0
