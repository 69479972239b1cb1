"""DPM-Solver-fast: steps of order 3, even in half-log-SNR, as many as a number of evaluations allows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from .betas import linspace
from .dpm_grouped import orders
from .dpm_multistep import QUIET
from .dpm_singlestep import INSIDE, SCHEMES, Stage, singlestep, within
from .dpm_step import FAMILY, PLAIN, Solver
from .spec import Method, Run, sampler

# levels at either end of a step, and its order
Step = tuple[float, float, int]


def knots(run: Run) -> Iterator[Step]:
    """Steps from the first of the sigmas to the last above 0, that evaluate as often as there are sigmas between.

    From alpha 0, which no lambda has, the first is one of order 1 to the second sigma.
    """
    levels, sigmas = run.levels, [sigma for sigma in run.sigmas if sigma > 0.0]
    if len(sigmas) > 1 and levels.alpha(sigmas[0]) == 0.0:
        yield sigmas[0], sigmas[1], 1
        sigmas = sigmas[1:]
    if len(sigmas) < 2:
        return
    parts = orders(len(sigmas) - 1, 3)
    places = linspace(levels.half_log_snr(sigmas[0]), levels.half_log_snr(sigmas[-1]), len(parts) + 1)
    ends = [sigmas[0], *(levels.sigma_of(place) for place in places[1:-1]), sigmas[-1]]
    for (sigma, target), order in zip(pairwise(ends), parts, strict=True):
        yield sigma, target, order


@sampler(
    "dpm_fast",
    label="DPM fast",
    order=2,
    family=FAMILY,
    noise_option="eta",
    aliases=("k_dpm_fast",),
    paper=PLAIN,
    options=QUIET,
)
def dpm_fast(run: Run, x: Tensor) -> Method:
    """DPM-Solver-3 in steps even in lambda between the first sigma and the last above 0, whatever lies between.

    A walk evaluates once for each of its sigmas, so three to a step; what is left over makes one or two steps of
    lower order at the end, where the order is 2. eta puts noise back as in ancestral sampling.
    """
    levels, solver, made = run.levels, Solver(run.levels, noise=True), 0
    last = run.sigmas[-1] or run.sigmas[-2]

    def counted(stages: Iterator[Stage]) -> Iterator[Stage]:
        nonlocal made
        for stage in stages:
            run.index, made = made, made + 1
            yield stage

    for sigma, target, order in knots(run):
        down = max(levels.ancestral(sigma, target, run.eta), last) if run.eta else target
        scheme = SCHEMES["midpoint" if order == 2 else "published"]
        x = yield from singlestep(run, x, counted(within(levels, sigma, down, INSIDE[order])), scheme, solver)
        scale, std = levels.renoise(down, target)
        x = run.add_noise(x, scale, std * run.s_noise, sigma, target)
    if run.sigmas[-1] == 0.0:
        run.index = made
        x = yield x, last
    return x
