"""Scheduler objects: the samplers of this package, a step at a time, as users of diffusers call them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..samplers.noise_paths import BrownianNoise
from ..samplers.spec import Noise
from . import learned
from .draw import Generators
from .noising import Noising
from .output import SchedulerOutput
from .plan import Evaluation
from .space import PREDICTIONS
from .threshold import threshold

HALVES = (torch.float16, torch.bfloat16)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x.to(dtype), which costs a microsecond even where it does nothing."""
    return x if x.dtype == dtype else x.to(dtype)


class Scheduler(Noising):
    """Base of all classes; each is a `Row`. A facade: the arithmetic of a step is that of the row's sampler.

    The sample is worked on in float32 (float64 stays) and given back in its own dtype. No step reads anything back from
    the device, where timesteps are entries of `timesteps` or Python numbers. Gradients flow through
    `pred_original_sample`, and through `prev_sample` where the method is of one evaluation and has no memory.

    Attributes:
        noise_sampler: (sigma, sigma_next) -> noise, in place of a step's own; None leaves it that.
    """

    noise_sampler: Noise | None = None

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The network's input: c_in times the sample, which is the sample itself unless noise explodes."""
        if not self._space.scaled:
            return sample
        walker = self._running
        index = walker.locate(timestep, self.begin_index)
        return sample * self._space.levels.scale_input(walker.plan.evaluations[index].sigma)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Generators = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        **given: Any,
    ) -> SchedulerOutput | tuple[Tensor, ...]:
        """The sample at the next of `timesteps` from the model's output at this one.

        Args:
            timestep: an entry of `timesteps`.
            generator: draws the step's noise; or one for each image.
            variance_noise: the step's noise itself.

        Raises:
            OptionError: a timestep out of turn, or an argument that the class cannot heed.
            NonFiniteError: the output holds NaN or infinity; on an accelerator, found at the last step.
        """
        walker = self._running
        index = walker.locate(timestep, self.begin_index)
        asked = walker.plan.evaluations[index]
        x = self._brought(sample, asked.sigma)
        output, variance = self._split(model_output, x)
        denoised = self._denoised(output, asked.sigma, x, given.pop("pred_original_sample", None))
        x, denoised = self._limited(x, denoised, asked, given.pop("use_clipped_model_output", False))
        self._set_noise(x, model_output.dtype, generator, variance_noise)
        if self.row.learned and self._own.variance_type in learned.KINDS:
            self._noise.factor = self._factor(variance, asked)
        x = walker.advance(index, x, denoised, {**self._options, **self._passed(given)})
        previous, denoised = cast(self._back(x, index), sample.dtype), cast(denoised, sample.dtype)
        if return_dict:
            return SchedulerOutput(previous, denoised)
        return (previous, denoised) if self.row.pair else (previous,)

    def _passed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The sampler's options among the arguments of a step; OptionError for one that cannot be heeded."""
        row = self.row
        for name, why in row.refused.items():
            if given.get(name, row.step[name]) != row.step[name]:
                raise OptionError(f"{name}={given[name]!r}", f"{type(self).__name__}.step", todo=why)
        return {row.passed[name]: value for name, value in given.items() if name in row.passed}

    def _set_noise(self, x: Tensor, dtype: torch.dtype, generator: Generators, given: Tensor | None) -> None:
        self._noise.set(x, torch.float32 if self.row.float_noise else dtype, generator, given)
        if self.row.eager:
            self._noise.draw_now()
        if self.noise_sampler is not None:
            self._noise.path = self.noise_sampler
        elif self.row.brownian and (self._noise.path is None or self._running.due is None):
            self._noise.path = self._path(x)

    def _path(self, x: Tensor) -> Noise:
        """Brownian noise, an image's by its seed in noise_sampler_seed: one for each, or the first of them."""
        seed = self._own.noise_sampler_seed
        if seed is None:
            seed = int(torch.randint(0, 2**63 - 1, ()).item())
        seeds = [seed + image for image in range(len(x))] if isinstance(seed, int) else list(seed)
        return BrownianNoise(seeds, x.shape[1:], self._space.levels, device=x.device, dtype=x.dtype)

    def _brought(self, sample: Tensor, sigma: float) -> Tensor:
        """The sample in the walk's coordinates and precision; itself where it is there."""
        x = sample.float() if sample.dtype in HALVES else sample
        stretch = self._space.stretch
        return x if stretch is None else x * stretch(sigma)

    def _back(self, x: Tensor, index: int) -> Tensor:
        stretch, plan = self._space.stretch, self._plan
        if stretch is None:
            return x
        more = index + 1 < len(plan.evaluations)
        return x / stretch(plan.evaluations[index + 1].sigma if more else plan.sigmas[-1])

    def _split(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction, and the variance beside it; a class that does not heed that leaves it."""
        variance = None
        if self._own.get("variance_type") in learned.KINDS and output.ndim > 1 and x.ndim > 1:
            output, variance = learned.split(output, x.shape[1])
        if output.shape != x.shape:
            raise OptionError(
                f"model_output has shape {tuple(output.shape)}",
                f"{type(self).__name__}.step",
                expected=f"{tuple(x.shape)}, the sample's",
                todo="chunk the two halves of guidance" if output.numel() == 2 * x.numel() else None,
            )
        return output, variance

    def _denoised(self, output: Tensor, sigma: float, x: Tensor, given: Tensor | None) -> Tensor:
        if given is not None:
            return given.to(x)
        kind = self.row.prediction(self._own)
        skip, out = self._space.scalings(self.row.predictions.get(kind, PREDICTIONS.get(kind, kind)), sigma)
        if output.device != x.device:
            output = output.to(x.device)
        if skip == 0.0 and out == 1.0:
            return cast(output, x.dtype)
        return (x * skip).add_(output, alpha=out)

    def _limited(
        self, x: Tensor, denoised: Tensor, asked: Evaluation, consistent: bool
    ) -> tuple[Tensor, Tensor]:
        """x and a prediction within the range of the data, where the config asks for that."""
        config = self._own
        limit = next((name for name in self.row.limits if config.get(name)), None)
        if limit is None:
            return x, denoised
        if limit == "thresholding":
            kept = threshold(denoised, config.dynamic_thresholding_ratio, config.sample_max_value)
        else:
            reach = config.get("clip_sample_range", 1.0)
            kept = denoised.clamp(-reach, reach)
        if self.row.loose and not consistent:
            # the x that this prediction belongs to with the noise as it was
            x = x.add(kept - denoised, alpha=self._space.levels.alpha(asked.sigma))
        return x, kept

    def _factor(self, variance: Tensor | None, asked: Evaluation) -> Tensor | None:
        if variance is None:
            what, expected = (
                f"variance_type {self._own.variance_type}",
                "an output of twice the sample's channels",
            )
            raise OptionError(what, f"{type(self).__name__}.step", expected)
        pair = self._plan.sigmas[asked.step : asked.step + 2]
        return learned.factor(self._own.variance_type, variance, self._space.levels, pair[0], pair[1])
