"""Restart (Xu et al. 2023) around any deterministic method: back up with new noise, and down again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..core.errors import OptionError
from .drive import Walk, find_sampler
from .restart_plan import Segment, automatic, checked, plan
from .spec import SAMPLERS, Method, Option, Run, SamplerSpec, Walker

OPTIONS = (
    Option("restart_steps", 0, 0, 1000, "steps of one restart; 0 is A1111's rule by the number of steps"),
    Option("restart_times", 1, 1, 100, "how often, where restart_steps is not 0"),
    Option("t_min", 0.1, 1e-4, math.inf, "sigma / alpha where a restart begins and ends"),
    Option("t_max", 2.0, 1e-4, math.inf, "sigma / alpha that it goes back up to"),
)
S_NOISE = Option("s_noise", 1.0, 0.0, 10.0, "scale of the noise; 0 leaves the restarts out")


def follow(run: Run, x: Tensor, inner: SamplerSpec, sigmas: Sequence[float], first: int) -> Method:
    """A walk of `inner` inside that of `run`, whose steps it counts on from `first`."""
    values = {option.name: getattr(run, option.name) for option in inner.options}
    walk = Walk(inner, Run(sigmas, run.levels, run.noise, values), x)
    while walk.asked is not None:
        run.index = first + walk.run.index
        walk.answer((yield walk.asked))
    assert walk.result is not None  # a method returns its x
    return walk.result


def _segments(run: Run, given: Sequence[Segment] | None) -> Sequence[Segment]:
    if run.s_noise == 0.0:
        return ()
    if given is not None:
        return given
    if run.restart_steps:
        return (Segment(run.restart_steps, run.restart_times, run.t_min, run.t_max),)
    return automatic(len(run.sigmas) - 1, run.t_min, run.t_max)


def _walk(run: Run, x: Tensor, inner: SamplerSpec, given: Sequence[Segment] | None) -> Method:
    by_rule = given is None and not run.restart_steps
    walks = plan(run.sigmas, _segments(run, given), run.levels, by_rule)
    # where each step begins, for whoever is told of it
    run.sigmas = (*(sigma for walk in walks for sigma in walk[:-1]), walks[-1][-1])
    at, done = walks[0][0], 0
    for sigmas in walks:
        scale, std = run.levels.renoise(at, sigmas[0])
        x = run.add_noise(x, scale, std * run.s_noise, at, sigmas[0])
        x = yield from follow(run, x, inner, sigmas, done)
        at, done = sigmas[-1], done + len(sigmas) - 1
    return x


def _walker(inner: SamplerSpec, given: Sequence[Segment] | None) -> Walker:
    def walker(run: Run, x: Tensor) -> Method:
        """The method along each walk of the plan, its history fresh; between them noise up to where the next begins."""
        return _walk(run, x, inner, given)

    return walker


@dataclass(frozen=True)
class RestartSpec(SamplerSpec):
    """A sampler around another. As many steps as the schedule has: what restarts take, the walk does without.

    Attributes:
        inner: the method of every walk.
        segments: the restarts; None if options and A1111's rule decide.
    """

    inner: SamplerSpec | None = None
    segments: tuple[Segment, ...] | None = None

    def cost(self, steps: int) -> int:
        """Evaluations of `steps` steps; each walk of the plan starts `inner` anew."""
        segments = automatic(steps) if self.segments is None else self.segments
        walks = 1 + sum(segment.times + 1 for segment in segments)
        return steps * self.evaluations + walks * self.extra


def restart(
    sampler: str | SamplerSpec,
    segments: Sequence[Segment | tuple[int, int, float, float]] | None = None,
    *,
    name: str | None = None,
    label: str | None = None,
) -> RestartSpec:
    """Restart (arXiv:2306.14878) around a deterministic method: a sampler to drive, or to register.

    Args:
        segments: (steps, times, t_min, t_max) of each restart, levels as sigma / alpha; None leaves them to the
            options `restart_steps`, ... and to A1111's rule.

    Raises:
        OptionError: the method adds noise or solves no ODE, or a segment that cannot be walked; when driven, one
            that does not lie inside the walk.
    """
    inner = find_sampler(sampler)
    if inner.stochastic or inner.order == 0:
        raise OptionError(
            f"restart around {inner.name}", expected="a deterministic method", todo="heun is usual"
        )
    fixed = None if segments is None else tuple(map(checked, segments))
    own = (S_NOISE,) if fixed is not None else (S_NOISE, *OPTIONS)
    return RestartSpec(
        name=name or f"restart_{inner.name}",
        method=_walker(inner, fixed),
        label=label or f"Restart {inner.label}",
        order=inner.order,
        evaluations=inner.evaluations,
        extra=inner.extra,
        adaptive=inner.adaptive,
        family="Restart",
        stochastic=True,
        noise_option="s_noise",
        flow=inner.flow,
        default_schedule=inner.default_schedule,
        paper="arXiv:2306.14878",
        options=(*(option for option in inner.options if option.name != "s_noise"), *own),
        inner=inner,
        segments=fixed,
    )


SAMPLERS.add(restart("heun", name="restart", label="Restart"))
