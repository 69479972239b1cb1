"""SEEDS: exponential single-step solvers of the diffusion SDE (arXiv:2305.14267)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ..core.errors import OptionError
from .phi import combine, phi
from .process import Process
from .spec import Method, Option, Run, sampler

NOISE = (
    Option("eta", 1.0, 0.0, 10.0, "noise of the SDE; 0 is the ODE"),
    Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise"),
)


def seeds(run: Run, x: Tensor, nodes: Sequence[float], rule: str) -> Method:
    """At each node c of the step in lambda, and at its end: x_c = decay x + (gain - w) D + w D_c' + noise.

    D is the evaluation at sigma, D_c' the last one, w of `slope_weight`. The noise is that of one path: what the
    stage before had, taken on to this level by the SDE, and new noise for the way between the two.
    """
    levels, eta = run.levels, run.eta
    for sigma, sigma_next in run.steps():
        first = denoised = yield x, sigma
        if sigma_next == 0.0:
            return first
        state, at, before = x, sigma, math.inf
        noises: list[Tensor] = []
        spreads: list[float] = []
        for c in (*nodes, 1.0):
            level = levels.between(sigma, sigma_next, c) if c < 1.0 else sigma_next
            onward, _, std = levels.sde(at, level, eta)
            spreads = [spread * onward for spread in spreads]
            if std > 0.0:
                noises.append(run.noise(at, level))
                spreads.append(std * run.s_noise)
            decay, gain, _ = levels.sde(sigma, level, eta)
            w = slope_weight(levels, sigma, level, eta, rule if c == 1.0 else "phi_2") * c / before
            state = combine(x, decay, [first, denoised, *noises], [gain - w, w, *spreads])
            at, before = level, c
            if c < 1.0:
                denoised = yield state, level
        x = state
    return x


def slope_weight(levels: Process, sigma: float, level: float, eta: float, rule: str) -> float:
    """Weight of denoised's rise over the way: alpha k phi_2(-k), k = (1 + eta) h, or half the gain (phi_1).

    phi_2 is exact for a rise linear in lambda; an infinite h takes phi_1.
    """
    h = levels.half_log_snr(level) - levels.half_log_snr(sigma)
    if rule == "phi_1" or math.isinf(h):
        return levels.sde(sigma, level, eta)[1] / 2
    k = (1 + eta) * h
    return levels.alpha(level) * k * phi(2, -k)


DECLARED = {
    "family": "SDE",
    "stochastic": True,
    "noise_option": "eta",
    "brownian": True,
    "paper": "arXiv:2305.14267",
}


@sampler(
    "seeds_2",
    label="SEEDS-2",
    order=2,
    evaluations=2,
    options=(
        *NOISE,
        Option("r", 0.5, 0.01, 0.99, "where in lambda the second evaluation lies"),
        Option("solver_type", "phi_1", help="weight of the second evaluation", choices=("phi_1", "phi_2")),
    ),
    **DECLARED,
)
def seeds_2(run: Run, x: Tensor) -> Method:
    """Two evaluations a step, the second at r of it."""
    return seeds(run, x, (run.r,), run.solver_type)


@sampler(
    "seeds_3",
    label="SEEDS-3",
    order=3,
    evaluations=3,
    options=(
        *NOISE,
        Option("r_1", 1 / 3, 0.01, 0.99, "where in lambda the second evaluation lies"),
        Option("r_2", 2 / 3, 0.01, 0.99, "where in lambda the third evaluation lies; order 3 at 2/3, else 2"),
    ),
    **DECLARED,
)
def seeds_3(run: Run, x: Tensor) -> Method:
    """Three evaluations a step, at 0, r_1 and r_2 of it. Raises OptionError unless r_1 < r_2."""
    if run.r_1 >= run.r_2:
        raise OptionError(f"r_1={run.r_1:g} is not below r_2={run.r_2:g}", "sampler seeds_3", "r_1 < r_2")
    return seeds(run, x, (run.r_1, run.r_2), "phi_2")
