"""Adams predictor-corrector in the ratio of noise to signal: one evaluation a step, used twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from .er_sde import er_step
from .exponential_multistep import Step, multistep
from .exponential_steps import data_step
from .process import Process
from .spec import Method, Option, Run, sampler

FEW = 6  # steps, up to which `auto` goes by two evaluations, in half-log-SNR
SPACES: dict[str, Callable[..., Step]] = {"ratio": er_step, "log_snr": data_step}


def through_signal(
    levels: Process, inner: Callable[..., Step], sigma: float, sigma_next: float, places: Sequence[float]
) -> Step:
    """`inner` without the places that have no signal, where the ratio is infinite; exact for a constant from there."""
    seen = [place for place in places if levels.alpha(place) > 0.0]
    if levels.alpha(sigma) > 0.0 and seen:
        return inner(levels, sigma, sigma_next, seen)
    decay, gain = levels.exact(sigma, sigma_next)
    return Step(decay, [gain])


@sampler(
    "adams_pc",
    label="Adams PC",
    order=3,
    family="Exponential multistep",
    default_schedule="fitted",
    aliases=("adams_predictor_corrector",),
    paper="arXiv:2302.04867",
    options=(
        Option("order", 0, 0, 4, "evaluations the predictor goes by; 0: as many as suit the number of steps"),
        Option(
            "corrector", -1, -1, 4, "evaluations the corrector goes by, the new one included; -1: as many"
        ),
        Option("space", "auto", help="in which denoised is a polynomial", choices=("auto", *SPACES)),
    ),
)
def adams_pc(run: Run, x: Tensor) -> Method:
    """x_next = (sigma_next / sigma) x + sigma_next (integral of D d(alpha / sigma)), D a polynomial in sigma / alpha.

    Through the last evaluations; and once more, with the one at sigma_next among them, when that is there (the
    unified corrector, with the exact integrals at every order). On mixtures D is far nearer to a polynomial in
    sigma / alpha than in its logarithm; but in a walk of 6 steps or fewer, on the schedule `fitted`, the logarithm
    and two evaluations came nearer. The first steps have fewer evaluations to go by, so a lower order.
    """
    few = len(run.sigmas) - 1 <= FEW
    order = run.order or (2 if few else 3)
    corrector = order if run.corrector < 0 else run.corrector
    space = ("log_snr" if few else "ratio") if run.space == "auto" else run.space
    kernel = partial(through_signal, run.levels, SPACES[space])
    return multistep(run, x, kernel, lambda step: (order, corrector))
