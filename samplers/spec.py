"""What a sampler is: a generator over a Run, with what it declares about itself.

Notation of the whole folder: a noised latent is x = alpha * x0 + sigma * noise (process.py), `denoised` is
the model's prediction of x0, lambda is log(alpha / sigma).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..core.errors import OptionError
from ..core.option import Option, Value, resolve
from ..core.registry import Registry
from .levels import NoiseLevels, are_levels

Method = Generator[tuple[Tensor, float], Tensor, Tensor]
Noise = Callable[[float, float], Tensor]


class Run:
    """One walk along `sigmas`: what a method reads. Options are attributes (`run.eta`)."""

    def __init__(
        self,
        sigmas: Sequence[float],
        levels: NoiseLevels,
        noise: Noise | None = None,
        options: Mapping[str, Value] | None = None,
    ) -> None:
        self.sigmas = tuple(sigmas)
        self.levels = levels
        self.index = 0
        self._noise = noise
        self._options = dict(options or {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_options"][name]
        except KeyError:
            raise AttributeError(f"this sampler declares no option {name!r}") from None

    def steps(self) -> Iterator[tuple[float, float]]:
        """(sigma, sigma_next) of each step; `index` counts along."""
        for index, pair in enumerate(pairwise(self.sigmas)):
            self.index = index
            yield pair

    def noise(self, sigma: float, sigma_next: float) -> Tensor:
        """Noise of unit variance, shaped like x, for the way from sigma to sigma_next."""
        if self._noise is None:
            raise OptionError(
                "this sampler adds noise and was given no noise source",
                todo="pass noise=ImageNoise(seeds, shape) or set its noise option to 0",
            )
        return self._noise(sigma, sigma_next)

    def add_noise(self, x: Tensor, scale: float, std: float, sigma: float, sigma_next: float) -> Tensor:
        """scale * x + std * noise; no noise is drawn when std is 0."""
        if scale != 1.0:
            x = x * scale
        return x if std == 0.0 else x.add(self.noise(sigma, sigma_next), alpha=std)


Walker = Callable[[Run, Tensor], Method]


@dataclass(frozen=True)
class SamplerSpec:
    """A method and what it declares; hosts, command line, documents and tests all read this.

    Attributes:
        order: order of convergence of the sample on the probability-flow ODE, measured by the tests on steps
            whose length changes smoothly; 0 for a method that solves no ODE (consistency models).
        evaluations: model evaluations per step (a step to sigma 0 may take fewer).
        extra: evaluations beyond that in a walk, by a starting procedure.
        adaptive: whether it chooses its own steps between the first and the last of the sigmas.
        distilled: whether it is made for models distilled to few steps (LCM, TCD, consistency).
        family: heading under which lists put it.
        stochastic: whether noise is added when the options are left alone.
        noise_option: the option that turns noise on and, at 0, off; None if there is none.
        flow: whether it is valid for rectified flow.
        brownian: whether its noise should come from a Brownian path (`step_noise` sees to it).
        sigmas: the only levels it walks, in the place of a schedule's; none for any.
    """

    name: str
    method: Walker
    label: str
    order: int
    evaluations: int = 1
    extra: int = 0
    adaptive: bool = False
    distilled: bool = False
    family: str = ""
    stochastic: bool = False
    noise_option: str | None = None
    flow: bool = True
    brownian: bool = False
    default_schedule: str = "karras"
    aliases: tuple[str, ...] = ()
    paper: str = ""
    options: tuple[Option, ...] = ()
    sigmas: tuple[float, ...] = ()

    def cost(self, steps: int) -> int:
        """Model evaluations of a walk of this many steps that stops above sigma 0; of an adaptive one, a guess."""
        return steps * self.evaluations + self.extra

    def run(
        self,
        sigmas: Sequence[float],
        levels: NoiseLevels,
        noise: Noise | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Run:
        """A Run with everything checked. Raises OptionError for bad sigmas, options or process."""
        if are_levels(levels).is_flow and not self.flow:
            raise OptionError("not valid for rectified flow", f"sampler {self.name}", todo="choose another")
        values = resolve(self.options, options, f"sampler {self.name}") | self.settled()
        return Run(self.checked(sigmas, levels), levels, noise, values)

    def checked(self, sigmas: Sequence[float], levels: NoiseLevels) -> list[float]:
        """`sigmas` as floats. Raises OptionError for a list that it cannot walk."""
        return levels.check(sigmas)

    def settled(self) -> dict[str, Value]:
        """Options that nobody can choose."""
        return {}


SAMPLERS: Registry[SamplerSpec] = Registry("sampler")


def sampler(name: str, **declared: Any) -> Callable[[Walker], Walker]:
    """Register a generator as a sampler; `declared` are the fields of SamplerSpec."""

    def register(method: Walker) -> Walker:
        SAMPLERS.add(SamplerSpec(name=name, method=method, **declared))
        return method

    return register
