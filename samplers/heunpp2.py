"""Heun++: Heun's method with a third slope, weighted by how noisy each one's level is."""

from __future__ import annotations

from torch import Tensor

from .euler import CHURN, churn
from .spec import Method, Run, sampler


@sampler(
    "heunpp2",
    label="HeunPP2",
    order=1,
    evaluations=3,
    extra=-1,
    family="Runge-Kutta",
    noise_option="s_churn",
    aliases=("heun_pp2", "Heun++ 2"),
    paper="Carzit/sd-webui-samplers-scheduler",
    options=CHURN,
)
def heunpp2(run: Run, x: Tensor) -> Method:
    """x + (sigma_next - sigma) sum_j w_j d_j along Euler steps over the next levels.

    w_j = sigma_j / (n sigma_max) for those after the first of the n slopes, which takes the rest; sigma_max is the
    walk's highest. n is 3, and 2 where the level after the next is 0 or the walk ends; a step to sigma 0 is Euler's.
    """
    highest = max(run.sigmas)
    for sigma, sigma_next in run.steps():
        x, sigma = churn(run, x, sigma)
        denoised = yield x, sigma
        if sigma_next == 0.0:
            return denoised
        ahead = [level for level in run.sigmas[run.index + 1 : run.index + 3] if level > 0.0]
        weights = [level / ((len(ahead) + 1) * highest) for level in ahead]
        step = sigma_next - sigma
        gap, at, trial = x - denoised, sigma, x
        x = x.add(gap, alpha=step * (1 - sum(weights)) / sigma)
        for level, weight in zip(ahead, weights, strict=True):
            trial = trial.add(gap, alpha=(level - at) / at)
            gap, at = trial - (yield trial, level), level
            x.add_(gap, alpha=step * weight / level)
    return x
