"""Every sampler converges, at the order it declares, to the solution of the ODE, on both processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch

from sigmagraft.samplers import SAMPLERS, NoiseLevels, SamplerSpec, drive

integrate = pytest.importorskip("scipy.integrate")

RANGE = {False: (4.0, 0.2), True: (0.85, 0.15)}
# the order of an adaptive method is that of its error in its own number of evaluations (test_dpm_adaptive.py)
ODES = [s for s in SAMPLERS if s.order and not s.adaptive and (s.noise_option or not s.stochastic)]
# steps of the walks: fewer for a high order, whose error would drown in rounding; multiples of 3, since the last
# step of a method that groups its sigmas depends on what is left over
STEPS = {1: (78, 156), 2: (78, 156), 3: (78, 156), 4: (192, 384), 5: (48, 96), 6: (32, 64)}

# where errors of two orders cancel on fewer steps
LATE = {"adams_pc": (240, 480)}


def quiet(spec: SamplerSpec) -> dict[str, float]:
    return {spec.noise_option: 0.0} if spec.noise_option else {}


def grid(levels: NoiseLevels, steps: int, order: int = 1) -> list[float]:
    """Smooth, but even in no variable that a solver works in.

    A multistep method of order p takes its first steps at order 1, 2 ..., which would cap what is measured: step j
    of those is shortened to h^((p + 1) / (j + 1)), so that its error is of the size of a later step's.
    """
    high, low = RANGE[levels.is_flow]
    short = list(accumulate(steps ** (1 - (order + 1) / (j + 1)) for j in range(1, order)))
    at = [0.0, *(u / steps / (1 + sum(short)) for u in short), *(i / steps for i in range(1, steps + 1))]
    return [float(high ** (1 / 3) + u * (low ** (1 / 3) - high ** (1 / 3))) ** 3 for u in at]


def start(levels: NoiseLevels) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    high, _ = RANGE[levels.is_flow]
    return high * torch.randn(4, 6, dtype=torch.float64, generator=generator)


@pytest.fixture(scope="module")
def solutions(make_mixture) -> Callable[[bool], torch.Tensor]:
    """Whether it is flow -> the solution, found once a process."""

    @cache
    def of(flow: bool) -> torch.Tensor:
        levels = NoiseLevels.flow(shift=3.0) if flow else NoiseLevels.discrete()
        return solution(make_mixture(levels), levels)

    return of


def solution(mixture, levels: NoiseLevels) -> torch.Tensor:
    """dx / dsigma = (x - denoised) / sigma, solved to 1e-12 by an embedded order 8 method."""
    x = start(levels)

    def slope(sigma: float, flat: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(flat).view_as(x)
        return ((at - mixture(at, sigma)) / sigma).flatten().numpy()

    solved = integrate.solve_ivp(
        slope, RANGE[levels.is_flow], x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13
    )
    return torch.from_numpy(solved.y[:, -1]).view_as(x)


def measured(
    spec: SamplerSpec, order: int, options: dict, levels: NoiseLevels, mixture, exact: torch.Tensor
) -> tuple[list, list]:
    """(orders, errors) of walks whose steps suit a method of this order."""
    errors = []
    for steps in LATE.get(spec.name) or STEPS.get(order, (8, 16, 32)):
        sigmas = grid(levels, steps, order)
        end = drive(spec, mixture, start(levels), sigmas, levels=levels, options=options)
        errors.append((end - exact).norm().item())
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)], errors


@pytest.mark.parametrize("spec", ODES, ids=lambda spec: spec.name)
def test_declared_order_is_the_measured_one(
    spec: SamplerSpec, levels: NoiseLevels, mixture, solutions
) -> None:
    if levels.is_flow and not spec.flow:
        pytest.skip(f"{spec.name} declares itself not for rectified flow")
    orders, errors = measured(spec, spec.order, quiet(spec), levels, mixture, solutions(levels.is_flow))
    assert orders[-1] > spec.order - 0.25, (errors, orders)
    # above order 4 some leading terms are so small that the next one still rules where rounding sets in
    assert orders[-1] < spec.order + 0.25 or spec.order > 4, (errors, orders)


# the orders that options give a method
VARIANTS = [
    ("dpmpp_2m", {"solver_type": "heun"}, 2),
    ("dpmpp_3m", {"solver_order": 1}, 1),
    ("dpmpp_3m", {"curvature": "exact"}, 3),
    ("dpm_solver_3m", {"curvature": "exact"}, 3),
    ("dpmpp_2s", {"r": 1.0, "solver_type": "heun"}, 2),
    ("dpmpp_3s", {"solver_type": "heun"}, 3),
    ("dpmpp_singlestep", {"solver_order": 3, "lower_order_final": 0, "solver_type": "heun"}, 3),
    ("dpm_solver_singlestep", {"solver_order": 3, "lower_order_final": 0}, 3),
    ("adams_pc", {"order": 1, "corrector": 2}, 2),
    ("adams_pc", {"space": "log_snr"}, 3),
]


@pytest.mark.parametrize(("name", "options", "order"), VARIANTS)
def test_order_of_a_variant(
    name: str, options: dict, order: int, levels: NoiseLevels, mixture, solutions
) -> None:
    exact = solutions(levels.is_flow)
    orders, errors = measured(SAMPLERS[name], order, options, levels, mixture, exact)
    assert orders[-1] == pytest.approx(order, abs=0.25), errors


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_evaluations_per_step_are_as_declared(spec: SamplerSpec, levels: NoiseLevels, mixture) -> None:
    asked: list[float] = []

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return mixture(x, sigma)

    drive(
        spec,
        counted,
        start(levels),
        grid(levels, 10),
        levels=levels,
        noise=lambda a, b: torch.zeros(4, 6).double(),
    )
    assert spec.adaptive or len(asked) == spec.cost(10)


@pytest.mark.parametrize("spec", [s for s in SAMPLERS if s.order], ids=lambda spec: spec.name)
def test_samples_have_the_datas_mean_and_variance(spec: SamplerSpec, levels: NoiseLevels) -> None:
    """Gaussian data N(0.5, 0.6^2), denoised = 0.5 + g (x - alpha 0.5): noise put back in the wrong amount shows."""
    mean, deviation = 0.5, 0.6

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        alpha = levels.alpha(sigma)
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        return mean + gain * (x - alpha * mean)

    generator = torch.Generator().manual_seed(3)
    top = 0.999 if levels.is_flow else 20.0
    steps = 1200 if spec.name == "dpmpp_singlestep" else 600  # a step of that one holds two sigmas
    if spec.order >= 4:  # such a step may be long; that of an SDE solver may not
        steps = max(steps // spec.evaluations, 150)
    sigmas = [top * (0.002 / top) ** (i / steps) for i in range(steps + 1)] + [0.0]

    def draw(sigma: float = 0.0, sigma_next: float = 0.0) -> torch.Tensor:
        return torch.randn(10000, 1, generator=generator)

    x = levels.alpha(top) * (mean + deviation * draw()) + top * draw()
    on = 10.0 if spec.noise_option == "s_churn" else 1.0
    options = {spec.noise_option: on} if spec.noise_option else {}
    end = drive(spec, denoise, x, sigmas, levels=levels, noise=draw, options=options)
    assert end.mean().item() == pytest.approx(mean, abs=0.02)
    assert end.std().item() == pytest.approx(deviation, rel=0.02)
