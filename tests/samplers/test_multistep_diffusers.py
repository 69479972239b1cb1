"""UniPC, SA-Solver and DEIS, every setting, whole trajectories equal to diffusers' schedulers on both processes."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, drive, schedule

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
UNIPC = {"bh1": "uni_pc", "bh2": "uni_pc_bh2"}
STEPS = 9


def theirs(name: str, levels: NoiseLevels, denoise, x: torch.Tensor, sigmas: list[float], **config: Any):
    """Every latent of a diffusers scheduler's walk along our sigmas, and its end.

    In double precision its sigmas are ours, without their rounding to single.
    """
    scheduler = getattr(diffusers, name)(
        prediction_type="sample", use_flow_sigmas=levels.is_flow, timestep_spacing="linspace", **config
    )
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.tensor(sigmas, dtype=x.dtype)
    scheduler.timesteps = torch.arange(len(sigmas) - 1)
    scheduler.set_begin_index(0)
    more = {"generator": torch.Generator().manual_seed(7)} if name == "SASolverScheduler" else {}

    def scale(sigma: float) -> float:
        return 1.0 if levels.is_flow else 1 / math.hypot(sigma, 1.0)

    x, walk = x * scale(sigmas[0]), []
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=False):
        walk.append(x / scale(sigma))
        x = scheduler.step(denoise(walk[-1], sigma), t, x, **more).prev_sample
    return torch.stack([*walk, x / scale(sigmas[-1])])


def ours(name: str, levels: NoiseLevels, denoise, x: torch.Tensor, sigmas: list[float], **options: Any):
    generator, walk = torch.Generator().manual_seed(7), []
    end = drive(
        name,
        denoise,
        x,
        sigmas,
        levels=levels,
        noise=lambda a, b: torch.randn(x.shape, generator=generator, dtype=x.dtype),
        options=options,
        callback=lambda state: walk.append(state["x"]),
    )
    return torch.stack([*walk, end])


def way(levels: NoiseLevels, steps: int = STEPS, to_zero: bool = False) -> list[float]:
    sigmas = schedule("karras", steps + (not to_zero), levels)
    return [min(sigmas[0], 0.99) if levels.is_flow else sigmas[0], *sigmas[1 : steps + 1]]


def start(sigmas: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    # their einsum wants [b, c, ...]
    return sigmas[0] * torch.randn(
        2, 1, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).to(dtype)


def far(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest distance, relative to the largest value at that step; NaN where theirs is."""
    return ((got - expected).abs().amax((1, 2, 3)) / expected.abs().amax((1, 2, 3))).max().item()


def unipc(
    levels, mixture, sigmas, dtype=torch.float64, *, order, rule, predict, final="always", disabled=0
) -> float:
    x = start(sigmas, dtype)
    expected = theirs(
        "UniPCMultistepScheduler",
        levels,
        mixture,
        x,
        sigmas,
        solver_order=order,
        solver_type=rule,
        predict_x0=predict == "x0",
        lower_order_final=final != "never",
        disable_corrector=list(range(disabled)),
        final_sigmas_type="sigma_min" if sigmas[-1] else "zero",
    )
    options = {"order": order, "predict": predict, "lower_order_final": final, "disable_corrector": disabled}
    return far(ours(UNIPC[rule], levels, mixture, x, sigmas, **options), expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("rule", UNIPC)
def test_unipc(mixture, levels: NoiseLevels, rule: str, order: int) -> None:
    settings = product(("x0", "eps"), ("always", "never"), (0, 2, STEPS))
    for predict, final, disabled in settings:
        found = unipc(
            levels,
            mixture,
            way(levels),
            order=order,
            rule=rule,
            predict=predict,
            final=final,
            disabled=disabled,
        )
        assert found < 1e-9, (predict, final, disabled)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_in_single_precision(mixture, levels: NoiseLevels, order: int) -> None:
    for rule, predict in product(UNIPC, ("x0", "eps")):
        found = unipc(levels, mixture, way(levels), torch.float32, order=order, rule=rule, predict=predict)
        assert found < 1e-4, (rule, predict)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_to_sigma_zero(mixture, levels: NoiseLevels, order: int) -> None:
    """B(h) = h is infinite there, and so is exp(h) of noise prediction: theirs multiplies that by 0, which is NaN.

    In theory the step of order 1 is (sigma_next / sigma) x + alpha_next (1 - exp(-h)) D, which is D: ours.
    """
    sigmas = way(levels, to_zero=True)
    known = {"levels": levels, "mixture": mixture, "sigmas": sigmas, "order": order, "final": "zero"}
    assert unipc(**known, rule="bh2", predict="x0") < 1e-9
    for rule, predict in (("bh1", "x0"), ("bh1", "eps"), ("bh2", "eps")):
        assert math.isnan(unipc(**known, rule=rule, predict=predict))
        name, options = UNIPC[rule], {"order": order, "predict": predict}
        x = start(sigmas)
        walk = ours(name, levels, mixture, x, sigmas, **options)
        torch.testing.assert_close(walk[-1], mixture(walk[-2], sigmas[-2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "tau"), [("sa_ode", 0.0), ("sa_solver", 0.6), ("sa_solver", 1.0)])
def test_sa_solver(mixture, levels: NoiseLevels, name: str, tau: float) -> None:
    """With two places their slope has the weight of simple_order_2, with more the exact one, as ours always has."""
    sigmas = way(levels)
    x = start(sigmas)
    noise = {} if name == "sa_ode" else {"eta": tau, "sde_start_percent": 0.0, "sde_end_percent": 1.0}
    places = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (3, 4), (4, 3), (4, 4))
    for (predictor, corrector), final in product(places, ("always", "never")):
        expected = theirs(
            "SASolverScheduler",
            levels,
            mixture,
            x,
            sigmas,
            predictor_order=predictor,
            corrector_order=corrector,
            tau_func=lambda t: torch.tensor(tau, dtype=torch.float64),
            lower_order_final=final == "always",
        )
        options = {"predictor_order": predictor, "corrector_order": corrector, "lower_order_final": final}
        got = ours(name, levels, mixture, x, sigmas, simple_order_2="on", **noise, **options)
        assert far(got, expected) < 1e-8, (predictor, corrector, final)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(mixture, levels: NoiseLevels, order: int) -> None:
    """Theirs is the polynomial in log(sigma / alpha); it lowers the order at the end of walks below 15 steps."""
    for steps, final in ((STEPS, "always"), (STEPS, "never"), (16, "never")):
        sigmas = way(levels, steps)
        x = start(sigmas)
        config = {"solver_order": order, "lower_order_final": final == "always"}
        expected = theirs("DEISMultistepScheduler", levels, mixture, x, sigmas, **config)
        options = {"max_order": order, "deis_mode": "logrho", "lower_order_final": final}
        assert far(ours("deis", levels, mixture, x, sigmas, **options), expected) < 1e-9


@pytest.mark.parametrize(
    ("name", "peer", "options", "config"),
    [
        ("sa_ode", "SASolverScheduler", {"simple_order_2": "on"}, {"tau_func": lambda t: torch.tensor(0.0)}),
        ("deis", "DEISMultistepScheduler", {"deis_mode": "logrho", "max_order": 2}, {}),
    ],
)
def test_in_single_precision(
    mixture, levels: NoiseLevels, name: str, peer: str, options: dict, config: dict
) -> None:
    sigmas = way(levels)
    x = start(sigmas, torch.float32)
    expected = theirs(peer, levels, mixture, x, sigmas, **config)
    places = {"predictor_order": 2, "corrector_order": 2} if name == "sa_ode" else {}
    got = ours(name, levels, mixture, x, sigmas, lower_order_final="always", **options, **places)
    assert far(got, expected) < 1e-4
