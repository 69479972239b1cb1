"""The one loop that feeds a method: evaluations in, the finished latent out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import OptionError
from .finite import FiniteWatch
from .levels import NoiseLevels
from .spec import SAMPLERS, Noise, Run, SamplerSpec

Denoise = Callable[[Tensor, float], Tensor]
Callback = Callable[[dict[str, Any]], None]


def find_sampler(sampler: str | SamplerSpec) -> SamplerSpec:
    """A spec as it is, or the one of that name. Raises OptionError with the nearest names."""
    if isinstance(sampler, str):
        return SAMPLERS[sampler]
    if not isinstance(sampler, SamplerSpec):
        raise OptionError(f"sampler {sampler!r:.80}", expected="a name or a SamplerSpec")
    return sampler


def _check(denoise: object, x: object, noise: object, callback: object) -> None:
    """OptionError for an argument of another kind."""
    for name, value, needed in (
        ("denoise", denoise, True),
        ("noise", noise, False),
        ("callback", callback, False),
    ):
        if (needed or value is not None) and not callable(value):
            raise OptionError(f"{name} {value!r:.80}", expected="a function")
    if not isinstance(x, Tensor):
        raise OptionError(f"x {x!r:.80}", expected="a tensor, the latent at the first of the sigmas")


class Walk:
    """A method under way: what it asks for, and its result once it has stopped.

    Attributes:
        asked: (x, sigma) of the evaluation it waits for; None when it is done.
        result: the final x; None before.
    """

    def __init__(self, spec: SamplerSpec, run: Run, x: Tensor) -> None:
        self.run = run
        self._where = f"sampler {spec.name}"
        self.result: Tensor | None = None
        self.asked: tuple[Tensor, float] | None = None
        self._method = spec.method(run, x)
        if not isinstance(self._method, Generator):
            what = f"its method returned {type(self._method).__name__}"
            raise OptionError(what, self._where, "a generator that yields (x, sigma)")
        self._advance(None)

    def answer(self, denoised: Tensor) -> None:
        """Hand over the evaluation that was asked for. Raises OptionError if it is no tensor of x's shape."""
        if self.asked is None:
            raise OptionError("this walk is over", todo="start another")
        x = self.asked[0]
        self.check(denoised)
        if denoised.shape != x.shape:
            raise OptionError(
                f"the model answered shape {tuple(denoised.shape)}",
                expected=f"{tuple(x.shape)}, the latent's",
            )
        self._advance(denoised.to(x.dtype))

    def check(self, denoised: object) -> None:
        """Raises OptionError unless this is a tensor."""
        if not isinstance(denoised, Tensor):
            what = f"the model answered {type(denoised).__name__}"
            raise OptionError(what, self._where, "denoised, a tensor like the latent")

    def _advance(self, denoised: Tensor | None) -> None:
        try:
            asked = next(self._method) if denoised is None else self._method.send(denoised)
        except StopIteration as stop:
            self.asked, self.result = None, stop.value
            if not isinstance(self.result, Tensor):
                what = f"its method returned {type(self.result).__name__}"
                raise OptionError(
                    what, self._where, "its last x", "end the generator with `return x`"
                ) from None
            return
        if not (isinstance(asked, tuple) and len(asked) == 2 and isinstance(asked[0], Tensor)):
            raise OptionError(f"its method yielded {type(asked).__name__}", self._where, "(x, sigma)")
        self.asked = asked


@torch.no_grad()
def drive(
    sampler: str | SamplerSpec,
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    levels: NoiseLevels,
    noise: Noise | None = None,
    options: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk x down `sigmas` and return the latent at the last of them.

    Args:
        denoise: (x, sigma) -> denoised, the prediction of x0, both [b, ...].
        x: the latent at sigmas[0], [b, ...]; left untouched. Its dtype is the one the arithmetic runs in.
        noise: (sigma, sigma_next) -> unit noise like x; needed by stochastic methods.
        callback: called once a step, after its first evaluation, with
            i, sigma, sigma_next, sigma_hat (the level evaluated), x, denoised. Raise from it to cancel.

    Raises:
        OptionError: unknown sampler or option, value out of range, sigmas that do not fall, missing noise; a method
            that is no generator of (x, sigma) or returns no x; a model that answers no tensor.
        NonFiniteError: the model answered NaN or infinity; on an accelerator, found after the last step.
    """
    spec = find_sampler(sampler)
    _check(denoise, x, noise, callback)
    run = spec.run(sigmas, levels, noise, options)
    watch = FiniteWatch(len(run.sigmas) - 1)
    walk = Walk(spec, run, x)
    told = -1
    while walk.asked is not None:
        at, sigma = walk.asked
        denoised = denoise(at, sigma)
        walk.check(denoised)
        watch.see(denoised, run.index, sigma)
        if callback is not None and run.index != told:
            told = run.index
            callback(_state(run, at, sigma, denoised))
        walk.answer(denoised)
    watch.finish()
    assert walk.result is not None  # `Walk` has seen to it
    return walk.result


def _state(run: Run, x: Tensor, sigma_hat: float, denoised: Tensor) -> dict[str, Any]:
    i = run.index
    levels = {"sigma": run.sigmas[i], "sigma_next": run.sigmas[i + 1], "sigma_hat": sigma_hat}
    return {"i": i, "x": x, "denoised": denoised, **levels}
