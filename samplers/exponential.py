"""Exponential methods in lambda, the half-log-SNR: x's own decay is exact, D = denoised is integrated.

x_next = (sigma_next / sigma) x + alpha_next integral of exp(-(lambda_next - l)) D(l) dl from lambda to lambda_next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .exponential_tableaux import EXPONENTIAL, ExponentialRow
from .phi import adams, combine, moments
from .phi_sums import ExponentialTableau
from .process import Process
from .runge_kutta import QUIET, ancestral_walk
from .spec import Method, Run, Walker, sampler

FAMILY = "Exponential Runge-Kutta"


def reach(
    levels: Process, sigma: float, sigma_next: float, nodes: Sequence[float]
) -> tuple[float, list[tuple[float, float]]]:
    """(z, (sigma_c, gain) of each node c): x_c = (sigma_c / sigma) x + gain sum_j w_j(z) D_j, weights w of a tableau.

    sigma_c lies the fraction c of the way in lambda, z = -h and gain = alpha_c h, h the step. From alpha 0, where
    lambda is -inf, the way is that in r = alpha / sigma, of which d(x / sigma)/dr = D: z = 0 and gain = sigma_c r_next.
    """
    start, end = levels.half_log_snr(sigma), levels.half_log_snr(sigma_next)
    far = math.isinf(start)
    h = math.exp(end) if far else end - start
    places = [levels.sigma_of(math.log(c * h) if far else start + c * h) for c in nodes]
    places = [sigma_next if c == 1.0 else place for c, place in zip(nodes, places, strict=True)]
    return (0.0 if far else -h), [(s, h * (s if far else levels.alpha(s))) for s in places]


def exponential_step(
    tableau: ExponentialTableau, levels: Process, x: Tensor, sigma: float, sigma_next: float
) -> Method:
    """One step of the tableau; from alpha 0 its limit at h = 0, a classical method of no lower order (`reach`).

    To sigma 0, where all weight falls on D at the end, the step is of order 1: x_next = denoised.
    """
    if sigma_next == 0.0:
        return (yield x, sigma)
    z, places = reach(levels, sigma, sigma_next, tableau.nodes)
    at, place = x, sigma
    seen: list[Tensor] = []
    for (ahead, gain), row in zip(places, tableau.weights(z), strict=True):
        seen.append((yield at, place))
        at, place = combine(x, ahead / sigma, seen, [gain * w for w in row]), ahead
    return at


def predict_correct(run: Run, x: Tensor, memory: int, corrections: int) -> Method:
    """The integral of the polynomial through D here and at `memory` earlier steps; corrected with D at its end.

    The first steps have fewer earlier ones and a lower order; one to sigma 0 gives denoised. An earlier step from
    alpha 0 lies infinitely far away and is left out.
    """
    past: list[tuple[float, Tensor]] = []  # lambda and denoised, the latest first
    for sigma, sigma_next in run.steps():
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        start = run.levels.half_log_snr(sigma)
        z, [(_, gain)] = reach(run.levels, sigma, sigma_next, (1.0,))
        known = [(0.0, denoised), *(((half_log_snr - start) / -z, d) for half_log_snr, d in past)]
        decay, at = sigma_next / sigma, _integrated(x, sigma_next / sigma, gain, z, known)
        for _ in range(corrections):
            again = yield at, sigma_next
            at = _integrated(x, decay, gain, z, [(1.0, again), *known])
        past = [] if math.isinf(start) else [(start, denoised), *past][:memory]
        x = at
    return x


def _integrated(
    x: Tensor, decay: float, gain: float, z: float, known: Sequence[tuple[float, Tensor]]
) -> Tensor:
    nodes, seen = zip(*known, strict=True)
    return combine(x, decay, seen, [gain * w for w in adams(nodes, moments(z, len(nodes)))])


def _walker(row: ExponentialRow) -> Walker:
    def walk(run: Run, x: Tensor) -> Method:
        tableau = row.build(*(getattr(run, option.name) for option in row.options))
        return ancestral_walk(run, x, lambda *step: exponential_step(tableau, run.levels, *step))

    walk.__doc__ = f"Exponential Runge-Kutta in lambda, {row.stages} stages: {row.paper}."
    return walk


for _row in EXPONENTIAL:
    sampler(
        _row.name,
        label=_row.label,
        order=_row.order,
        evaluations=_row.stages,
        family=FAMILY,
        noise_option="eta",
        aliases=_row.aliases,
        paper=_row.paper,
        options=(*QUIET, *_row.options),
    )(_walker(_row))

PEC = "Ostermann, Thalhammer and Wright 2006"


@sampler("pec423_2h2s", label="PEC 423", order=4, evaluations=2, family=FAMILY, paper=PEC)
def pec423(run: Run, x: Tensor) -> Method:
    """Two earlier steps, one correction: predict, evaluate, correct."""
    return predict_correct(run, x, 2, 1)


@sampler(
    "pec433_2h3s", label="PECEC 433", order=4, evaluations=3, family=FAMILY, aliases=("pecec433",), paper=PEC
)
def pecec433(run: Run, x: Tensor) -> Method:
    """Two earlier steps, two corrections."""
    return predict_correct(run, x, 2, 2)
