"""DPM-Solver-v3: multistep predictor and corrector in the coordinates that suit the model (arXiv:2310.13268)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dpm_multistep import FEW, FINAL
from .dpm_step import FAMILY
from .dpm_v3_integrals import newton_weights, span
from .model_statistics import ModelStatistics
from .spec import Method, Option, Run, SamplerSpec
from .statistics_file import load_statistics

STRONG = 2.0  # guidance above which the corrector, extrapolating a field so stiff, does harm (measured)
HALF = 0.5  # of the way in the sigmas of a walk, from where a half corrector corrects
OPTIONS = (
    Option("order", 2, 1, 3, "evaluations each step goes by; 3 is for 15 steps and more"),
    Option(
        "corrector",
        "auto",
        help="which steps are corrected; auto: all, or none where guidance above 2 was measured",
        choices=("auto", "full", "half", "none"),
    ),
    Option("p_pseudo", 0, 0, 1, "1: divided differences as derivatives in the predictor, which has order 2"),
    Option("c_pseudo", 0, 0, 1, "1: the same in the corrector"),
    FINAL[0],
)


class Known(NamedTuple):
    """F = D - (1 - l) x / alpha of an evaluation, and its lambda."""

    tensor: Tensor
    place: float


class Step(NamedTuple):
    """Where a step began, and what it went by, newest first."""

    x: Tensor
    sigma: float
    known: tuple[Known, ...]


class Solver:
    """The steps of one walk over one model's statistics."""

    def __init__(self, statistics: ModelStatistics, run: Run, x: Tensor) -> None:
        statistics.check(x.shape)
        # an empty latent rehearses a walk (stepper.py); no table would fit it
        self.statistics = statistics if x.numel() else ModelStatistics.constant()
        self.levels = run.levels
        self.like = x[:0]

    def known(self, x: Tensor, denoised: Tensor, sigma: float) -> Known:
        """What the evaluation of x at sigma says."""
        return Known(self.moved(denoised, -x, sigma), self.levels.half_log_snr(sigma))

    def moved(self, denoised: Tensor, away: Tensor, sigma: float) -> Tensor:
        """denoised where x is moved by `away`, by the mean of its Jacobian: D + (1 - l) away / alpha."""
        place = torch.tensor([self.levels.half_log_snr(sigma)], dtype=torch.float64)
        l = self.statistics.at(place)[0][0]  # noqa: E741
        return torch.addcmul(denoised, away, self._cast((1 - l) / self.levels.alpha(sigma)))

    def correct(self, before: Step, sigma: float, here: Known, run: Run) -> Tensor:
        """The step that ended at sigma once more, going by the evaluation at its end too."""
        nodes = [before.known[0], here, *before.known[1 : run.order - 1]]
        return self.advance(before.x, before.sigma, sigma, nodes, bool(run.c_pseudo))

    def advance(
        self, x: Tensor, sigma: float, sigma_next: float, known: Sequence[Known], pseudo: bool
    ) -> Tensor:
        """x at sigma_next: z_next = exp(-L) (z + integral of E (g + B)), g the polynomial through known's.

        g = exp(-S) F - B at each of `known`, the first of which is at sigma.
        """
        levels = self.levels
        first, last = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
        step = span(self.statistics, first, last, len(known))
        nodes = [(one.place - first) / (last - first) for one in known]
        weights = newton_weights(nodes, step.moments, pseudo)
        scale = levels.alpha(sigma_next) * (-step.L).exp()
        constant, out = step.drift, x * self._cast(scale / levels.alpha(sigma))
        for one, weight in zip(known, weights, strict=True):
            away = span(self.statistics, first, one.place)
            constant = constant - weight * away.B
            out.addcmul_(one.tensor, self._cast(scale * weight * (-away.S).exp()))
        return out.add_(self._cast(scale * constant))

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.like)


def walk(statistics: ModelStatistics, run: Run, x: Tensor) -> Method:
    """Step k has order k at most, and so has step k after one from alpha 0, which is exact for a constant denoised.

    The evaluation after a step corrects it, at no further cost, by a polynomial through as many places, itself among
    them. One to sigma 0 gives denoised, moved as the corrector moved z: by its mean Jacobian, 1 - l. With
    lower_order_final the last two steps of fewer than 15 have at most order 2 and 1. Raises OptionError for latents
    that the statistics do not fit.
    """
    levels, solver = run.levels, Solver(statistics, run, x)
    past: deque[Known] = deque(maxlen=run.order)
    before: Step | None = None
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if levels.alpha(sigma) == 0.0:
            decay, gain = levels.exact(sigma, sigma_next)
            x = (x * decay).add_(denoised, alpha=gain)
            continue
        here, predicted = solver.known(x, denoised, sigma), x
        if before is not None and _corrects(statistics, run):
            x = solver.correct(before, sigma, here, run)
        if sigma_next == 0.0:
            return denoised if x is predicted else solver.moved(denoised, x - predicted, sigma)
        past.appendleft(here)
        known = list(past)[: _limit(run)]
        before = Step(x, sigma, tuple(past))
        x = solver.advance(x, sigma, sigma_next, known, bool(run.p_pseudo))
    return x


def _corrects(statistics: ModelStatistics, run: Run) -> bool:
    """Whether the step that ended here is corrected."""
    which = run.corrector
    if which == "auto":
        which = "none" if abs(statistics.facts.get("guidance") or 0.0) > STRONG else "full"
    late = run.sigmas[run.index] <= HALF * run.sigmas[0]
    return run.order > 1 and (which == "full" or (which == "half" and late))


def _limit(run: Run) -> int:
    steps = len(run.sigmas) - 1
    return min(3, steps - run.index) if run.lower_order_final and steps < FEW else 3


@dataclass(frozen=True)
class StatisticsSpec(SamplerSpec):
    """A sampler that goes by one model's statistics."""

    statistics: ModelStatistics = field(kw_only=True)

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.statistics.facts


def dpm_solver_v3(statistics: ModelStatistics, name: str = "dpm_solver_v3") -> StatisticsSpec:
    """DPM-Solver-v3 on one model's statistics, for whatever takes a sampler; `name` may be the path of their file."""
    return StatisticsSpec(
        name=name,
        method=partial(walk, statistics),
        label="DPM-Solver-v3",
        order=2,
        family=FAMILY,
        default_schedule="karras",
        paper="arXiv:2310.13268",
        options=OPTIONS,
        statistics=statistics,
    )


@lru_cache(maxsize=8)
def read(path: str, changed: int) -> StatisticsSpec:
    """The sampler of a file of statistics that was last changed then."""
    return dpm_solver_v3(load_statistics(path), path)
