"""Driving a method from someone else's loop: timesteps known beforehand, one `step` per evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .drive import Walk, find_sampler
from .finite import FiniteWatch
from .levels import NoiseLevels
from .spec import Noise, SamplerSpec


def rehearse(
    spec: SamplerSpec,
    sigmas: Sequence[float],
    levels: NoiseLevels,
    options: Mapping[str, Any] | None = None,
) -> list[tuple[float, int]]:
    """(sigma, number of the step) of every evaluation that the method will ask for: a run on an empty latent."""
    empty = torch.empty(0)
    run = spec.run(sigmas, levels, lambda sigma, sigma_next: empty, options)
    walk, asked = Walk(spec, run, empty), []
    while walk.asked is not None:
        asked.append((walk.asked[1], run.index))
        walk.answer(empty)
    return asked


def take(x: Tensor, sample: Tensor) -> Tensor:
    """Make the x that a method waits with the caller's sample, writing to no memory that the caller holds."""
    if x.data_ptr() != sample.data_ptr() or x.dtype != sample.dtype:
        x.set_(sample.detach().to(x))  # type: ignore[call-overload]
    return x


class Stepper:
    """The method as an object that is called once per model evaluation.

        sample = stepper.begin(noise * stepper.evaluated[0])
        for t in stepper.timesteps:
            sample = stepper.step(network(stepper.scale(sample, t), t), t, sample)

    Args:
        prediction: what the output is: "denoised", or a name that `levels.scalings` knows ("eps", "v", ...).

    Attributes:
        evaluated: the sigma of every model evaluation, from a dry run of the method on an empty latent.
        timesteps: the same as what the network is told.

    Raises:
        OptionError: as `drive` does, and from `step` when called out of turn.
        NonFiniteError: as `drive` does.
    """

    def __init__(
        self,
        sampler: str | SamplerSpec,
        sigmas: Sequence[float],
        *,
        levels: NoiseLevels,
        noise: Noise | None = None,
        options: Mapping[str, Any] | None = None,
        prediction: str = "denoised",
    ) -> None:
        self.spec = find_sampler(sampler)
        self.levels = levels
        self.prediction = prediction
        self.done = 0
        self._sigmas, self._noise, self._options = list(sigmas), noise, dict(options or {})
        self._watch = FiniteWatch(len(self._sigmas) - 1)
        self._walk: Walk | None = None
        self.evaluated = [sigma for sigma, _ in rehearse(self.spec, self._sigmas, levels, self._options)]
        self.timesteps = [levels.timestep(sigma) for sigma in self.evaluated]

    @torch.no_grad()
    def begin(self, sample: Tensor) -> Tensor:
        """Start, or start again, at a latent of the first sigma; gives the latent to evaluate first.

        That is `sample` itself unless the method noises it (churn). `step` calls this where nobody did.
        """
        self.done, self._watch = 0, FiniteWatch(len(self._sigmas) - 1)
        run = self.spec.run(self._sigmas, self.levels, self._noise, self._options)
        # a tensor object of our own: `take` may point it at other memory
        self._walk = Walk(self.spec, run, sample.detach())
        return _asked(self._walk).detach()

    def scale(self, sample: Tensor, t: float) -> Tensor:
        """c_in * sample: what the network sees at timestep t, the next one due."""
        return sample * self.levels.scale_input(self._due(t))

    @torch.no_grad()
    def step(self, model_output: Tensor, t: float, sample: Tensor) -> Tensor:
        """The latent to evaluate next; after the last timestep, the finished one.

        `sample` is the latent that was evaluated. It may have been edited since the last step returned it.
        """
        sigma = self._due(t)
        walk = self._walk or self._unprepared(sample)
        x = take(_asked(walk), sample)
        denoised = self._denoised(model_output, sigma, x)
        self._watch.see(denoised, walk.run.index, sigma)
        walk.answer(denoised)
        self.done += 1
        if walk.result is None:
            return _asked(walk).detach()
        self._watch.finish()
        return walk.result

    def _unprepared(self, sample: Tensor) -> Walk:
        first = self.begin(sample)
        assert self._walk is not None  # begin has set it
        if first.data_ptr() == sample.data_ptr():
            return self._walk
        self._walk = None
        raise OptionError(f"{self.spec.name} noises the first latent", todo="call begin(sample) first")

    def _due(self, t: float) -> float:
        given = float(t)
        if self.done >= len(self.timesteps):
            raise OptionError(f"timestep {given:g} after the last", todo="call begin(sample) to start again")
        due = self.timesteps[self.done]
        if abs(given - due) > 1e-3 * max(1.0, abs(due)):
            raise OptionError(
                f"timestep {given:g} out of turn", expected=f"{due:g}", todo="follow `timesteps`"
            )
        return self.evaluated[self.done]

    def _denoised(self, output: Tensor, sigma: float, x: Tensor) -> Tensor:
        if self.prediction == "denoised":
            return output
        skip, out, _ = self.levels.scalings(self.prediction, sigma)
        return (x * skip).add_(output, alpha=out)


def _asked(walk: Walk) -> Tensor:
    assert walk.asked is not None  # `_due` refuses a step after the last
    return walk.asked[0]
