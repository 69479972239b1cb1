"""The orders that options of UniPC, SA-Solver, DEIS, RES, ABNorsett, ER-SDE and SEEDS give, measured on both processes.

The defaults' are measured in test_order.py.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive

integrate = pytest.importorskip("scipy.integrate")

RANGE = {False: (4.0, 0.2), True: (0.85, 0.15)}
STEPS = (48, 96)
UNIPC = [
    ("uni_pc", {"order": p, "predict": predict, "corrector": corrector}, p + (corrector == "on"))
    for p, predict, corrector in (
        (1, "x0", "off"),
        (2, "eps", "off"),
        (3, "x0", "off"),
        (1, "x0", "on"),
        (1, "eps", "on"),
        (2, "x0", "on"),
        (2, "eps", "on"),
    )
]
# where a corrector has as many places as the predictor, its order; where it has more, only one more counts
SA = [
    ("sa_ode", {"predictor_order": p, "corrector_order": c}, order)
    for p, c, order in ((1, 0, 1), (2, 0, 2), (3, 0, 3), (1, 2, 2), (2, 3, 3), (2, 4, 3), (3, 2, 2))
]
DEIS = [
    ("deis", {"deis_mode": mode, "max_order": order}, order)
    for mode in ("tab", "rhoab", "logrho")
    for order in (1, 2, 3)
]
REST = [
    ("abnorsett_4m", {"spacing": "even"}, 2),
    ("er_sde", {"max_stage": 1, "eta": 0.0}, 1),
    ("er_sde", {"max_stage": 2, "eta": 0.0}, 2),
    ("er_sde", {"derivatives": "paper", "eta": 0.0}, 2),
    ("er_sde", {"max_stage": 2, "corrector_order": 3, "eta": 0.0}, 3),
    ("er_sde", {"solver_type": "ODE"}, 3),
    ("seeds_2", {"r": 0.7, "solver_type": "phi_2", "eta": 0.0}, 2),
    ("seeds_3", {"r_2": 0.9, "eta": 0.0}, 2),
    # the drift of the SDE, without its noise
    ("seeds_2", {"eta": 0.7}, 2),
    ("seeds_3", {"eta": 0.7}, 3),
    ("res_multistep_ancestral", {"eta": 0.0}, 2),
    ("res_2m", {"eta": 0.7}, 2),
    ("abnorsett_3m", {"eta": 0.7}, 3),
    (
        "sa_solver",
        {"eta": 0.7**0.5, "sde_start_percent": 0.0, "sde_end_percent": 1.0, "predictor_order": 2},
        3,
    ),
    ("er_sde", {"eta": 0.7, "solver_type": "Reverse-time SDE"}, 3),
]


def grid(high: float, low: float, steps: int, order: int) -> list[float]:
    """As in test_order.py: smooth, with starting steps short enough for the low orders they are taken at."""
    short = list(accumulate(steps ** (1 - (order + 1) / (j + 1)) for j in range(1, order)))
    at = [0.0, *(u / steps / (1 + sum(short)) for u in short), *(i / steps for i in range(1, steps + 1))]
    return [
        high if u == 0.0 else float(high ** (1 / 3) + u * (low ** (1 / 3) - high ** (1 / 3))) ** 3 for u in at
    ]


SOLVED: dict[tuple[bool, float, float], torch.Tensor] = {}


def solution(
    levels: NoiseLevels, denoise, x: torch.Tensor, high: float, low: float, eta: float
) -> torch.Tensor:
    """dx / dsigma = (x - D) / sigma + eta (x - alpha D) / (sigma alpha): the ODE and the SDE's own pull."""
    if (known := SOLVED.get((levels.is_flow, high, eta))) is not None:
        return known

    def slope(sigma: float, flat: np.ndarray) -> np.ndarray:
        at, alpha = torch.from_numpy(flat).view_as(x), levels.alpha(sigma)
        denoised = denoise(at, sigma)
        pull = (at - alpha * denoised) / alpha if eta else 0.0
        return ((at - denoised + eta * pull) / sigma).flatten().numpy()

    solved = integrate.solve_ivp(
        slope, (high, low), x.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12
    )
    SOLVED[levels.is_flow, high, eta] = torch.from_numpy(solved.y[:, -1]).view_as(x)
    return SOLVED[levels.is_flow, high, eta]


def measured(
    name: str,
    options: dict[str, Any],
    levels: NoiseLevels,
    denoise,
    high: float,
    low: float,
    order: int,
    eta=0.0,
) -> float:
    x = high * torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = solution(levels, denoise, x, high, low, eta)
    errors = []
    for steps in STEPS:
        sigmas = grid(high, low, steps, order)
        end = drive(
            name, denoise, x, sigmas, levels=levels, noise=lambda a, b: torch.zeros_like(x), options=options
        )
        errors.append((end - exact).norm().item())
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(("name", "options", "order"), [*UNIPC, *SA, *DEIS, *REST], ids=str)
def test_order(levels: NoiseLevels, mixture, name: str, options: dict[str, Any], order: int) -> None:
    eta = options.get("eta", 0.0)
    eta = eta**2 if name == "sa_solver" else eta  # tau
    found = measured(name, options, levels, mixture, *RANGE[levels.is_flow], order, eta)
    assert found == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("res_multistep", {}, 2),
        ("abnorsett_3m", {}, 2),
        ("er_sde", {"eta": 0.0}, 2),
        ("seeds_2", {"eta": 0.0}, 2),
        ("deis", {}, 3),
    ],
    ids=str,
)
def test_order_from_the_first_level_of_a_flow(
    make_mixture, name: str, options: dict[str, Any], order: int
) -> None:
    """At sigma 1 the half-log-SNR is infinite, and the steps after it stay long in it: order 2 at most.

    DEIS goes by the velocity in sigma, where nothing is infinite.
    """
    flow = NoiseLevels.flow(3.0)
    assert measured(name, options, flow, make_mixture(flow), 1.0, 0.3, order) == pytest.approx(order, abs=0.3)
