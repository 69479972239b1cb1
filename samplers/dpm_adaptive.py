"""DPM-Solver-12 and -23 (arXiv:2206.00927): steps as long as the difference between two orders allows."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Generator, Sequence

from torch import Tensor

from ..core.errors import OptionError
from .dpm_control import NAME, Budget, Control, distance
from .dpm_multistep import QUIET
from .dpm_singlestep import INSIDE, SCHEMES, Scheme, follow, within
from .dpm_step import FAMILY, PLAIN, Known, Solver, exact, midpoint
from .finite import NonFiniteError
from .spec import Method, Option, Run, sampler

FIRST = -7.0  # half-log-SNR that a walk from alpha 0 goes on from: the share of x0 in x is e^-7 there
NEAR = 1e-5  # in half-log-SNR: nearer to the end than this is the end
# order -> which predictions, by which rule, give the value of the order below and that of the order
PAIRS: dict[int, Scheme] = {
    2: (((0,), exact), ((0, 1), midpoint)),
    3: (((0, 1), midpoint), ((0, 2), exact)),
}
Values = Generator[tuple[Tensor, float], Tensor, tuple[Tensor, Tensor]]


def pair(solver: Solver, x: Tensor, sigma: float, target: float, first: Known, order: int) -> Values:
    """x at target by order - 1 and by order, from `first` and the evaluations inside the step."""
    at, known = x, [first]
    for stage, begin, inner in within(solver.levels, sigma, target, INSIDE[order]):
        if stage:
            denoised = yield at, begin
            known.append(solver.known(at, denoised, begin))
        if stage < order - 1:
            at, _ = follow(SCHEMES["published"][stage], solver, x, sigma, inner, known)
    low, high = (follow(way, solver, x, sigma, target, known)[0] for way in PAIRS[order])
    return low, high


@sampler(
    "dpm_adaptive",
    label="DPM adaptive",
    order=3,
    evaluations=3,
    adaptive=True,
    family=FAMILY,
    noise_option="eta",
    aliases=("k_dpm_ad", "k_dpm_adaptive", "dpm_ad"),
    paper=PLAIN,
    options=(
        Option("order", 3, 2, 3, "order of the higher of the two values of a step"),
        Option("rtol", 0.05, 0.0, 1.0, "error allowed a step, relative to the latent"),
        Option("atol", 0.0078, 1e-9, 10.0, "error allowed a step, absolute"),
        Option("h_init", 0.05, 1e-6, 10.0, "first step in half-log-SNR"),
        Option("pcoeff", 0.0, 0.0, 100.0, "proportional part of the step control"),
        Option("icoeff", 1.0, 0.0, 100.0, "integral part of the step control"),
        Option("dcoeff", 0.0, 0.0, 100.0, "derivative part of the step control"),
        Option("accept_safety", 0.81, 0.0, 2.5, "growth of the step from which it is accepted"),
        *QUIET,
        Option("max_evaluations", 1000, 1, 1000000, "evaluations after which the walk is given up"),
    ),
)
def dpm_adaptive(run: Run, x: Tensor) -> Method:
    """Steps of its own between the first sigma and the last above 0, whatever lies between (DPM-Solver-12 or -23).

    A step is two values of neighbouring orders; their distance, a mean over the batch, decides whether it counts and
    how long the next is. That is read from the device once a step. So the images of a batch share their steps, and
    one alone may get others: the two agree within rtol and atol, not bit for bit. eta puts noise back as in ancestral
    sampling. A walk of one sigma above 0 ends at the model's sigma_min; one from alpha 0 takes a first-order step to
    half-log-SNR -7. Raises OptionError after max_evaluations, NonFiniteError where a distance is not finite.
    """
    if x.is_meta or not x.numel():
        raise OptionError(
            "its steps depend on the values of the latent",
            NAME,
            "a latent with values",
            "use `drive`, not a Stepper",
        )
    levels, solver, budget = run.levels, Solver(run.levels, noise=True), Budget(run.max_evaluations)
    sigma, last = run.sigmas[0], _last(run)
    if levels.alpha(sigma) == 0.0:
        budget.spend(1, sigma, last)
        denoised = yield x, sigma
        target = max(levels.sigma_of(FIRST), last)
        decay, gain = levels.exact(sigma, target)
        x, sigma = (x * decay).add_(denoised, alpha=gain), target
    x = yield from _adapt(run, x, sigma, last, solver, budget)
    if run.sigmas[-1] == 0.0:
        run.index = len(run.sigmas) - 2
        x = yield x, last
    return x


def _adapt(run: Run, x: Tensor, sigma: float, last: float, solver: Solver, budget: Budget) -> Method:
    levels, control, before, first = run.levels, _control(run), x, None
    while levels.half_log_snr(sigma) < levels.half_log_snr(last) - NEAR:
        run.index = _interval(run.sigmas, sigma)
        place = levels.half_log_snr(sigma) + control.h
        target = levels.sigma_of(place) if place < levels.half_log_snr(last) else last
        down = max(levels.ancestral(sigma, target, run.eta), last) if run.eta else target
        budget.spend(run.order - (first is not None), sigma, last)
        if first is None:
            denoised = yield x, sigma
            first = solver.known(x, denoised, sigma)
        low, high = yield from pair(solver, x, sigma, down, first, run.order)
        error = distance(low, high, before, run.atol, run.rtol)
        if not math.isfinite(error):
            raise NonFiniteError("a step's error is NaN or infinity", f"{NAME}, sigma {sigma:.4g}")
        if control.accepts(error):
            scale, std = levels.renoise(down, target)
            x = run.add_noise(high, scale, std * run.s_noise, sigma, target)
            sigma, before, first = target, low, None
    return x


def _last(run: Run) -> float:
    above = [sigma for sigma in run.sigmas if sigma > 0.0]
    return above[-1] if len(above) > 1 else min(above[0], run.levels.sigma_min)


def _interval(sigmas: Sequence[float], sigma: float) -> int:
    """The step of the schedule that sigma lies in: what a progress bar shows."""
    passed = bisect_right([-value for value in sigmas], -sigma)
    return min(max(passed - 1, 0), len(sigmas) - 2)


def _control(run: Run) -> Control:
    p, i, d, order = run.pcoeff, run.icoeff, run.dcoeff, 1.5 if run.eta else run.order
    return Control(run.h_init, ((p + i + d) / order, -(p + 2 * d) / order, d / order), run.accept_safety)
