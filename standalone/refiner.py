"""A second model that takes over for the last steps of a run, as SDXL's refiner does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.errors import OptionError
from ..samplers import NoiseLevels
from .like import find_like
from .prompt_course import by_step

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .request import Request
    from .run import Run

Denoise = Callable[[Tensor, float], Tensor]
_TRAINED = 1000  # timesteps


def check_refiner(base: Pipeline, refiner: Pipeline) -> None:
    """OptionError where it cannot go on with the base's latents."""
    one, other = base.model, refiner.model
    if one.info.latent_channels != other.info.latent_channels:
        what = f"latents of {other.info.latent_channels} channels, the base has {one.info.latent_channels}"
        raise OptionError(what, other.source, todo="take a refiner of the same family")
    if base.levels.is_flow != refiner.levels.is_flow:
        raise OptionError("a refiner with other noise levels than the base", other.source)


def is_over(request: Request, levels: NoiseLevels, sigmas: list[float]) -> Callable[[float, int], bool]:
    """(sigma, evaluations made) -> whether the refiner does this one: after `switch` of the steps.

    As A1111 counts, evaluations, one more than its share of them; as diffusers does, by the timestep.
    """
    like, switch = find_like(request.like), request.switch
    if like is not None and like.by_evaluations:
        steps = (request.steps or 1) * (2 if str(request.sampler) in like.twice else 1)
        return lambda sigma, done: done > switch * steps
    if like is not None and like.course == "diffusers":
        return lambda sigma, done: levels.timestep(sigma) < round(_TRAINED * (1 - switch))
    step, first = by_step(sigmas), round(switch * (len(sigmas) - 1))
    return lambda sigma, done: step(sigma) > first


class Switched:
    """A denoiser that hands over to another, which is made when its turn comes."""

    def __init__(
        self, first: Denoise, make: Callable[[int], Denoise], over: Callable[[float, int], bool], done: int
    ) -> None:
        self.first, self.make, self.over, self.done = first, make, over, done
        self.second: Denoise | None = None

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        over = self.over(sigma, self.done)
        if over and self.second is None:
            self.second = self.make(self.done)
        self.done += 1
        return self.second(x, sigma) if over and self.second is not None else self.first(x, sigma)


def refined(run: Run, first: Denoise, refiner: Pipeline, done: int) -> Switched:
    """`first` up to the share of the steps that the request says, then the refiner with the same prompts."""
    over = is_over(run.request, run.levels, run.sigmas)
    return Switched(first, lambda made: run.guided_by(refiner, made), over, done)
