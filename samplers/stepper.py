"""Driving a method from someone else's loop: timesteps known beforehand, then one `step` per model evaluation."""

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


class Stepper:
    """for t in stepper.timesteps:
            sample = stepper.step(model(stepper.scale(sample, t), t), t, sample)

    Args:
        prediction: what the model's output is: denoised, or eps, v, x0, flow, edm as in `NoiseLevels.scalings`.

    Attributes:
        evaluated: the sigma of every model evaluation, from a dry run of the method on an empty latent.
        timesteps: the same as what the network is told.

    Raises:
        OptionError: as `drive` does; `step` also when called out of turn.
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
        self._sigmas, self._noise, self._options = list(sigmas), noise, dict(options or {})
        self.evaluated = self._rehearse()
        self.timesteps = [levels.timestep(sigma) for sigma in self.evaluated]
        self._watch = FiniteWatch(len(self._sigmas) - 1)
        self._walk: Walk | None = None
        self.done = 0

    def _rehearse(self) -> list[float]:
        empty = torch.empty(0)
        run = self.spec.run(self._sigmas, self.levels, lambda sigma, sigma_next: empty, self._options)
        walk, seen = Walk(self.spec, run, empty), []
        while walk.asked is not None:
            seen.append(walk.asked[1])
            walk.answer(empty)
        return seen

    @torch.no_grad()
    def begin(self, sample: Tensor) -> Tensor:
        """Start at `sample`, a latent at the first sigma; the latent to evaluate first (churn has noised it)."""
        run = self.spec.run(self._sigmas, self.levels, self._noise, self._options)
        self._walk, self.done = Walk(self.spec, run, sample), 0
        self._watch = FiniteWatch(len(self._sigmas) - 1)
        assert self._walk.asked is not None  # there is at least one step
        return self._walk.asked[0].detach()

    def scale(self, sample: Tensor, t: float) -> Tensor:
        """c_in * sample: what the network sees at timestep t."""
        return sample * self.levels.scale_input(self._sigma(t))

    @torch.no_grad()
    def step(self, model_output: Tensor, t: float, sample: Tensor) -> Tensor:
        """The latent to evaluate next, or the finished one after the last timestep.

        `sample` is the latent that was evaluated; it may differ from what the last step returned (an edit of
        yours between steps), the method goes on from it.
        """
        sigma = self._sigma(t)
        if self._walk is None:
            first = self.begin(sample)
            if first.data_ptr() != sample.data_ptr():
                raise OptionError(
                    f"{self.spec.name} with churn noises the first latent", todo="call begin(sample)"
                )
        walk = self._walk
        assert walk is not None and walk.asked is not None
        at = walk.asked[0]
        if at.data_ptr() != sample.data_ptr():
            # the method's own variable is this tensor: give it the caller's values without writing to any
            # memory that the caller holds
            at.set_(sample.to(at.dtype))  # type: ignore[call-overload]
        denoised = self._denoised(model_output, sigma, at)
        self._watch.see(denoised, walk.run.index, sigma)
        self.done += 1
        walk.answer(denoised)
        if walk.asked is not None:
            return walk.asked[0].detach()
        self._watch.finish()
        assert walk.result is not None
        return walk.result

    def _sigma(self, t: float) -> float:
        if self.done >= len(self.timesteps):
            raise OptionError(
                f"step at timestep {float(t):g} after the last one", todo="call begin(sample) to start again"
            )
        expected = self.timesteps[self.done]
        if abs(float(t) - expected) > 1e-3 * max(1.0, abs(expected)):
            raise OptionError(
                f"step at timestep {float(t):g}",
                expected=f"{expected:g}",
                todo="go through `timesteps` in order",
            )
        return self.evaluated[self.done]

    def _denoised(self, output: Tensor, sigma: float, x: Tensor) -> Tensor:
        if self.prediction == "denoised":
            return output
        skip, out, _ = self.levels.scalings(self.prediction, sigma)
        return torch.add(x * skip, output.to(x.dtype), alpha=out)
