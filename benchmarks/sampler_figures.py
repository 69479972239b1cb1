"""Order and error of a sampler, measured where the exact answer is known: Gaussian mixtures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sigmagraft.benchmarks.mixture import Mixture
from sigmagraft.samplers import NoiseLevels, SamplerSpec, drive, schedule
from sigmagraft.samplers.cost import most_steps

LEVELS = {"ve": NoiseLevels.discrete(), "flow": NoiseLevels.flow(3.0)}
SCHEDULE = {"ve": "karras", "flow": "beta"}  # of the errors, the same for every sampler
BUDGETS = (10, 20)
RANGE = {"ve": (4.0, 0.2), "flow": (0.85, 0.15)}  # of the orders: what lies beyond converges late
# the two numbers of steps an order is read from: fewer for a high order, whose error would drown in rounding;
# multiples of 3, since the last step of a method that groups its sigmas depends on what is left over
STEPS = {1: (300, 600), 2: (300, 600), 3: (300, 600), 4: (192, 384), 5: (48, 96), 6: (30, 60)}
FEWEST = (15, 30)


@dataclass(frozen=True)
class Figures:
    """Measured order on each process, and the relative error on each at each of BUDGETS; None: cannot be measured."""

    orders: tuple[float | None, ...]
    errors: tuple[float | None, ...]


def figures(spec: SamplerSpec) -> Figures:
    """All of one sampler, its noise turned off. A sampler that cannot go without has none."""
    return Figures(
        tuple(order(spec, process) for process in LEVELS),
        tuple(error(spec, process, budget) for process in LEVELS for budget in BUDGETS),
    )


def measurable(spec: SamplerSpec, process: str) -> bool:
    """Whether it solves the ODE when told to add no noise, in steps that are given."""
    quiet = spec.noise_option is not None or not spec.stochastic
    return bool(spec.order) and quiet and not spec.adaptive and (spec.flow or process == "ve")


def options(spec: SamplerSpec) -> dict[str, float]:
    """What turns the noise off."""
    return {spec.noise_option: 0.0} if spec.noise_option else {}


def order(spec: SamplerSpec, process: str) -> float | None:
    """log2 of the errors of a walk and of one with twice the steps."""
    if not measurable(spec, process):
        return None
    levels, (denoise, x, end) = LEVELS[process], smooth_case(process)
    coarse, fine = (
        (
            drive(spec, denoise, x, way(process, n, spec.order), levels=levels, options=options(spec)) - end
        ).norm()
        for n in STEPS.get(spec.order, FEWEST)
    )
    return math.log2(coarse / fine)


def way(process: str, steps: int, order: int) -> list[float]:
    """Sigmas that change smoothly, but evenly in no variable that a solver works in.

    A multistep method of order p takes its first steps at order 1, 2 ..., which would cap what is measured: step j
    of those is shortened to h^((p + 1) / (j + 1)), so that its error is of the size of a later step's.
    """
    high, low = (sigma ** (1 / 3) for sigma in RANGE[process])
    short = list(accumulate(steps ** (1 - (order + 1) / (j + 1)) for j in range(1, order)))
    at = [0.0, *(u / steps / (1 + sum(short)) for u in short), *(i / steps for i in range(1, steps + 1))]
    return [float(high + u * (low - high)) ** 3 for u in at]


class Smooth:
    """The denoiser of a few wide Gaussians in six dimensions, where every order shows early."""

    def __init__(self, levels: NoiseLevels) -> None:
        draw = torch.Generator().manual_seed(0)
        self.levels = levels
        self.means = torch.randn(5, 6, generator=draw, dtype=torch.float64)
        self.variances = 0.05 + 0.3 * torch.rand(5, generator=draw, dtype=torch.float64)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        alpha = self.levels.alpha(sigma)
        variance = alpha**2 * self.variances + sigma**2
        away = x[:, None] - alpha * self.means
        share = (-0.5 * (away.square().sum(-1) / variance + 6 * variance.log())).softmax(-1)
        return (share[..., None] * (self.means + (alpha * self.variances / variance)[:, None] * away)).sum(1)


@cache
def smooth_case(process: str) -> tuple[Smooth, Tensor, Tensor]:
    """(denoiser, x at the higher sigma, the ODE's solution at the lower one to 1e-12)."""
    denoise, (high, low) = Smooth(LEVELS[process]), RANGE[process]
    x = high * torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def slope(sigma: float, flat: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(flat).view_as(x)
        return ((at - denoise(at, sigma)) / sigma).flatten().numpy()

    solved = solve_ivp(slope, (high, low), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13)
    return denoise, x, torch.from_numpy(solved.y[:, -1]).view_as(x)


def error(spec: SamplerSpec, process: str, budget: int) -> float | None:
    """Median over images of the RMS distance to the ODE's end, relative, at no more than `budget` evaluations."""
    levels, name = LEVELS[process], SCHEDULE[process]
    if not measurable(spec, process):
        return None
    steps = most_steps(spec, lambda n: schedule(name, n, levels), budget, levels, options(spec))
    if steps is None:
        return None
    found = []
    for denoise, noise, end in latent_cases(process):
        sigmas = schedule(name, steps, levels)
        x = noise * math.hypot(levels.alpha(sigmas[0]), sigmas[0])
        away = drive(spec, denoise, x, sigmas, levels=levels, options=options(spec)) - end
        found.append(away.square().flatten(1).mean(1).sqrt() / end.square().flatten(1).mean(1).sqrt())
    return torch.cat(found).median().item()


@cache
def latent_cases(process: str) -> tuple[tuple[Mixture, Tensor, Tensor], ...]:
    """Mixtures shaped like latents: (denoiser, unit noise, the ODE's end)."""
    return tuple(_latent_cases(process))


def _latent_cases(process: str) -> Iterator[tuple[Mixture, Tensor, Tensor]]:
    levels = LEVELS[process]
    top = levels.sigma_max
    for seed in range(2):
        mixture = Mixture(levels, seed, components=24 + 8 * seed)
        noise = mixture.noise(8, 100 + seed)
        yield mixture, noise, mixture.end(noise * math.hypot(levels.alpha(top), top), top)
