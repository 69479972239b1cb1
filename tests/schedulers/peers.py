"""A class of ours and diffusers' of the same name, run side by side on a model with a known answer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from torch import Tensor

from sigmagraft import schedulers
from sigmagraft.samplers import NoiseLevels

from ..samplers.conftest import Mixture

diffusers.logging.set_verbosity_error()
MIXTURE = Mixture(NoiseLevels.discrete())
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CLASSES = sorted(schedulers.Scheduler.known)
SHAPE = (2, 1, 2, 6)


class Coordinates(NoiseLevels):
    """Only what the mixture asks of levels."""

    def __init__(self, alpha: float) -> None:
        self.share = alpha

    def alpha(self, sigma: float) -> float:
        return self.share

    timestep = sigma = predictions = None  # type: ignore[assignment]


def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
    """The known answer, in float64, for x = alpha x0 + sigma noise."""
    mixture = Mixture.__new__(Mixture)
    mixture.__dict__ = {**MIXTURE.__dict__, "levels": Coordinates(alpha)}
    return mixture(x.double(), sigma)


def normal(x: Tensor, ratio: float, prediction: str) -> Tensor:
    """A network on samples of unit variance at this noise-to-signal ratio."""
    sigma = 1.0 if math.isinf(ratio) else ratio / math.hypot(ratio, 1.0)
    alpha = 0.0 if math.isinf(ratio) else 1 / math.hypot(ratio, 1.0)
    x = x.double()
    denoised = denoise(x, alpha, sigma)
    noise = (x - alpha * denoised) / sigma
    kinds = {"epsilon": noise, "sample": denoised, "v_prediction": alpha * noise - sigma * denoised}
    return kinds[prediction]


def flow(x: Tensor, sigma: float, prediction: str) -> Tensor:
    denoised = denoise(x, 1 - sigma, sigma)
    noise = (x.double() - (1 - sigma) * denoised) / sigma
    return {"flow_prediction": noise - denoised, "epsilon": noise, "sample": denoised}[prediction]


def edm(x: Tensor, sigma: float, prediction: str, data: float = 0.5) -> Tensor:
    """EDM's network on x scaled to unit variance; v is the same with the other sign."""
    norm = math.hypot(sigma, data)
    x = x.double() * norm
    out = sigma * data / norm * (-1 if prediction == "v_prediction" else 1)
    return (denoise(x, 1.0, sigma) - (data / norm) ** 2 * x) / out


def boundary(x: Tensor, sigma: float, prediction: str, data: float = 0.5, low: float = 0.002) -> Tensor:
    """A consistency model's network; near sigma_min, where it does not count, kept from blowing up."""
    norm, above = math.hypot(sigma, data), sigma - low
    x = x.double() * norm
    skip, out = data**2 / (above**2 + data**2), above * data / norm
    return (denoise(x, 1.0, sigma) - skip * x) / max(out, 1e-2)


def made(theirs: type[Any], config: dict[str, Any]) -> Any:
    """One of their schedulers; those that lay out all of training first (half a second) are kept from it."""
    if "set_timesteps" not in inspect.getsource(theirs.__init__) or theirs is diffusers.IPNDMScheduler:
        return theirs(**config)
    with patch.object(
        theirs, "set_timesteps", lambda self, *_, **__: setattr(self, "sigmas", torch.zeros(1))
    ):
        return theirs(**config)


@dataclass
class Pair:
    """Both schedulers of one class, config and number of steps, with timesteps set.

    Attributes:
        step: further arguments of `step`.
        laid: further arguments of `set_timesteps`.
    """

    name: str
    config: dict[str, Any]
    steps: int | None
    step: dict[str, Any] = field(default_factory=dict)
    laid: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.theirs = made(getattr(diffusers, self.name), self.config)
        self.ours = getattr(schedulers, self.name)(**self.config)
        for scheduler in (self.theirs, self.ours):
            scheduler.set_timesteps(self.steps, **self.laid)
        if "noise_sampler_seed" in self.ours.config:
            for scheduler in (self.theirs, self.ours):
                draws = torch.Generator().manual_seed(6)
                scheduler.noise_sampler = lambda a, b, draws=draws: torch.randn(SHAPE, generator=draws)
        self.prediction = self.ours.config.get("prediction_type", "flow_prediction")

    def network(self, x: Tensor, place: float) -> Tensor:
        name = self.name
        if name.startswith("EDM"):
            return edm(x, place, self.prediction)
        if name.startswith("CM"):
            return boundary(x, place, self.prediction)
        if self.config.get("invert_sigmas"):
            return -flow(x, 1 - place, self.prediction)
        if name.startswith("FlowMatch") or self.config.get("use_flow_sigmas"):
            return flow(x, place, self.prediction)
        if name.startswith("IPNDM"):
            return normal(x, place, "v_prediction")
        return normal(x, place, self.prediction)

    def places(self) -> list[float]:
        """Where the model is evaluated, by what their object says."""
        theirs = self.theirs
        if hasattr(theirs, "sigmas") and (theirs.order == 1 or self.name.startswith("FlowMatch")):
            return theirs.sigmas.double().tolist()
        if self.name.startswith("IPNDM"):
            alphas, betas = theirs.alphas.double(), theirs.betas.double()
            return (betas / alphas.clamp(min=1e-3)).tolist()
        kept = theirs.alphas_cumprod.double().numpy()
        with np.errstate(divide="ignore"):
            ratios = np.log(np.sqrt((1 - kept) / kept))
        times = theirs.timesteps.double().numpy()
        return np.exp(np.interp(times, np.arange(len(ratios)), ratios)).tolist()


def takes(scheduler: Any, name: str) -> bool:
    return name in inspect.signature(scheduler.step).parameters


def walk(
    pair: Pair, scheduler: Any, dtype: torch.dtype = torch.float32, each: Callable[..., Any] | None = None
) -> list[Tensor]:
    """The sample after every step of a loop as people write it."""
    generator = torch.Generator().manual_seed(5)
    further = {**pair.step, **({"generator": generator} if takes(scheduler, "generator") else {})}
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    x = (start * getattr(scheduler, "init_noise_sigma", 1.0)).to(dtype)
    samples, places = [], pair.places()
    for index, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = pair.network(scaled, places[index]).to(dtype)
        x = scheduler.step(output, t, x, **further).prev_sample
        samples.append(x)
    return samples


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative distance along the way; infinite where one is not finite."""
    if len(ours) != len(theirs):
        return math.inf
    far = [(a - b).norm() / b.norm() for a, b in zip(ours, theirs, strict=True)]
    worst = torch.stack(far).max().item()
    return worst if math.isfinite(worst) else math.inf
