"""diffusers' EDM schedulers are our methods on EDM levels."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.samplers import NoiseLevels, Stepper, schedule

diffusers = pytest.importorskip("diffusers")
PREDICTIONS = pytest.mark.parametrize(
    ("prediction", "named"), [("edm", "epsilon"), ("v", "v_prediction")], ids=["edm", "v"]
)
SHAPE = (2, 6)


def network(x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.sin(2.0 * x) + 0.1 * t


def both(scheduler, name: str, prediction: str) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """(ours, theirs, our timesteps) of a whole walk along their sigmas."""
    levels = NoiseLevels.edm()
    x = expected = 80.0 * torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(expected, t), t.item())
        expected = scheduler.step(output, t, expected).prev_sample
    sigmas = scheduler.sigmas.double().tolist()
    stepper = Stepper(name, sigmas, levels=levels, prediction=prediction)
    for t in stepper.timesteps:
        x = stepper.step(network(stepper.scale(x, t), t), t, x)
    return x, expected, stepper.timesteps


@PREDICTIONS
@pytest.mark.parametrize("rule", ["karras", "exponential"])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_euler(prediction: str, named: str, rule: str, steps: int) -> None:
    scheduler = diffusers.EDMEulerScheduler(prediction_type=named, sigma_schedule=rule)
    scheduler.set_timesteps(steps)
    got, expected, times = both(scheduler, "euler", prediction)
    assert times == pytest.approx(scheduler.timesteps.tolist(), abs=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    if rule == "karras" or steps > 1:  # their exponential one step begins at sigma_min
        assert scheduler.sigmas.tolist() == pytest.approx(schedule(rule, steps, NoiseLevels.edm()), rel=1e-4)


@PREDICTIONS
@pytest.mark.parametrize("rule", ["karras", "exponential"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [2, 8, 20])
def test_dpmpp(prediction: str, named: str, rule: str, order: int, steps: int) -> None:
    """Without their lower order before the end of short walks; the step to sigma 0 is of order 1 in both."""
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        prediction_type=named, sigma_schedule=rule, solver_order=order, lower_order_final=False
    )
    scheduler.set_timesteps(steps)
    name = {1: "euler", 2: "dpmpp_2m"}[order]
    got, expected, times = both(scheduler, name, prediction)
    assert times == pytest.approx(scheduler.timesteps.tolist(), abs=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
