"""What is right where diffusers is not: a test for each reason in deviations.py."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from sigmagraft import schedulers

from .peers import SD, SHAPE, Pair, apart, normal, walk

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ["DDIM", "PNDM"])
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_a_step_ends_where_the_next_begins(name: str, spacing: str) -> None:
    """Where all data are one point the noise never changes, and every step is exact, if the next starts at its end."""
    config = {**SD, "timestep_spacing": spacing, "set_alpha_to_one": False}
    config |= {"skip_prk_steps": True} if name == "PNDM" else {"clip_sample": False}
    pair, point = Pair(f"{name}Scheduler", config, 30), torch.linspace(-1, 1, 6)

    def network(x: Tensor, ratio: float) -> Tensor:
        return (x * math.hypot(ratio, 1.0) - point) / ratio

    with patch.object(pair, "network", network):
        ours, theirs = walk(pair, pair.ours), walk(pair, pair.theirs)
    first, last = pair.ours.sigmas[[0, -1]].tolist()
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    noise = (start * math.hypot(first, 1.0) - point) / first
    end = (point + last * noise) / math.hypot(last, 1.0)
    assert (ours[-1] - end).norm() < 1e-4 * end.norm()
    assert (theirs[-1] - end).norm() > 1e-3 * end.norm()


def test_an_inverse_run_visits_the_places_of_the_run_down() -> None:
    config = {**SD, "timestep_spacing": "trailing", "set_alpha_to_one": False}
    up, down = schedulers.DDIMInverseScheduler(**config), schedulers.DDIMScheduler(**config)
    for scheduler in (up, down):
        scheduler.set_timesteps(30)
    assert up.timesteps.tolist() == down.timesteps.tolist()[::-1]
    assert up.sigmas[:-1].tolist() == down.sigmas[:-1].tolist()[::-1]


def test_ddim_is_euler_in_the_ratio() -> None:
    """On timesteps that N // n does not lead along, it equals diffusers' Euler on the same ones."""
    ddim = Pair("DDIMScheduler", {**SD, "timestep_spacing": "linspace", "clip_sample": False}, 7)
    times = ddim.ours.timesteps.tolist()
    euler = Pair("EulerDiscreteScheduler", SD, None, laid={"timesteps": times})
    stretch = math.hypot(euler.theirs.sigmas[0].item(), 1.0) / euler.theirs.sigmas[0].item()
    with patch.object(type(euler.theirs), "init_noise_sigma", euler.theirs.sigmas[0].item() * stretch):
        expected = walk(euler, euler.theirs)[-1]
    torch.testing.assert_close(walk(ddim, ddim.ours)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("DDIMInverseScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    ],
)
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_what_is_predicted_makes_no_difference(name: str, config: dict[str, Any], prediction: str) -> None:
    """eps and v of one denoiser are one field, so its numbers are the same; diffusers' are not."""
    if name.startswith("PNDM") and prediction == "sample":
        return
    eps, other = (Pair(name, {**SD, **config, "prediction_type": p}, 10) for p in ("epsilon", prediction))
    assert apart(walk(other, other.ours), walk(eps, eps.ours)) < 1e-4
    assert apart(walk(other, other.theirs), walk(eps, eps.theirs)) > 1e-2


SDES = [
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}),
]


@pytest.mark.parametrize(("name", "config"), SDES)
def test_a_short_sde_step_of_order_3_moves_little(name: str, config: dict[str, Any]) -> None:
    """It is an integral over the step, so as small as the step, whatever the predictions that it goes by."""
    config = {**SD, **config, "solver_order": 3, "prediction_type": "sample"}
    pair = Pair(name, config, 600)
    noise = "diffusers.schedulers.scheduling_{}.randn_tensor"
    module = "dpmsolver_multistep" if "Multi" in name else "dpmsolver_singlestep"

    def third(scheduler: Any) -> float:
        x = torch.zeros(SHAPE)
        for t, output in zip(scheduler.timesteps, (0.0, 0.0, 1.0), strict=False):
            x = scheduler.step(torch.full(SHAPE, output), t, x).prev_sample
        return x.abs().max().item()

    with (
        patch("sigmagraft.schedulers.draw.randn", lambda shape, *_: torch.zeros(shape)),
        patch(noise.format(module), lambda shape, **_: torch.zeros(shape)),
    ):
        assert third(pair.ours) < 0.15
        try:
            assert third(pair.theirs) > 0.4 * pair.theirs.alpha_t[-1].item()
        except UnboundLocalError:
            assert config["algorithm_type"] == "sde-dpmsolver"


@pytest.mark.parametrize(
    "config", [{"solver_type": "bh1"}, {"predict_x0": False}, {"lower_order_final": False}]
)
def test_a_step_to_sigma_zero_takes_denoised(config: dict[str, Any]) -> None:
    scheduler = schedulers.UniPCMultistepScheduler(**SD, solver_order=3, **config)
    scheduler.set_timesteps(6)
    x = torch.randn(SHAPE)
    for t, ratio in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        out = scheduler.step(normal(x, ratio, "epsilon").float(), t, x)
        x = out.prev_sample
    torch.testing.assert_close(x, out.pred_original_sample, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EDMDPMSolverMultistepScheduler", {"solver_order": 3, "final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistepInverseScheduler", {**SD, "solver_order": 3, "timestep_spacing": "trailing"}),
        ("DEISMultistepScheduler", {**SD, "solver_order": 3, "use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {**SD, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ],
)
def test_a_step_of_no_length_leaves_the_sample(name: str, config: dict[str, Any]) -> None:
    pair = Pair(name, config, 20)
    *_, before, after = walk(pair, pair.ours)
    correction = 1e-2 if name.startswith("UniPC") else 1e-6  # UniPC still corrects the step before
    assert (after - before).norm() < correction * before.norm()


def test_a_variance_kept_as_a_logarithm_is_the_same_variance() -> None:
    plain, log = (
        Pair("DDPMScheduler", {**SD, "variance_type": kind, "clip_sample": False}, 10)
        for kind in ("fixed_large", "fixed_large_log")
    )
    assert apart(walk(log, log.ours), walk(plain, plain.ours)) == 0.0
    assert apart(walk(plain, plain.ours), walk(plain, plain.theirs)) < 1e-4


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
def test_ddpm_ends_without_noise(kind: str) -> None:
    scheduler = schedulers.DDPMScheduler(
        **SD, variance_type=kind, timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(5)
    x = torch.randn(SHAPE)
    out = scheduler.step(torch.randn(SHAPE), scheduler.timesteps[-1], x)
    assert torch.equal(out.prev_sample, out.pred_original_sample)


def test_ipndm_begins_with_what_v_says_of_x0() -> None:
    """At alpha 0 v = -x0, and the step is DDIM's: x = alpha x0 + sigma noise."""
    scheduler = schedulers.IPNDMScheduler()
    scheduler.set_timesteps(10)
    x, v = torch.randn(SHAPE), torch.randn(SHAPE)
    got = scheduler.step(v, scheduler.timesteps[0], x).prev_sample
    sigma = math.sin(0.9 * math.pi / 2) ** 2
    expected = sigma * x - math.sqrt(1 - sigma**2) * v
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)


def test_every_sigma_has_its_timestep() -> None:
    scheduler = schedulers.DPMSolverMultistepInverseScheduler(**SD, use_exponential_sigmas=True)
    scheduler.set_timesteps(20)
    assert len(scheduler.timesteps) == len(scheduler.sigmas) - 1 == 20


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({**SD, "use_beta_sigmas": True, "solver_order": 3}, 20),
        ({"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}, 4),
    ],
)
def test_deis_in_more_digits(config: dict[str, Any], steps: int) -> None:
    """Given its own sigmas in float64, diffusers' DEIS computes what ours does."""
    pair = Pair("DEISMultistepScheduler", config, steps)
    few = walk(pair, pair.theirs)
    pair.theirs.set_timesteps(steps)
    pair.theirs.sigmas = pair.theirs.sigmas.double()
    many, ours = walk(pair, pair.theirs), walk(pair, pair.ours)
    assert apart(ours, [x.float() for x in many]) < 2e-5 < apart(ours, few)


@pytest.mark.parametrize("switch", ["use_exponential_sigmas", "use_beta_sigmas"])
def test_the_largest_sigma_is_that_of_the_last_timestep(switch: str) -> None:
    """diffusers' 998.99999 becomes 998."""
    pair = Pair("DPMSolverMultistepScheduler", {**SD, switch: True}, 10)
    assert pair.ours.timesteps[0] == 999
    assert pair.theirs.timesteps[0] == 998
    assert pair.ours.sigmas[0].item() == pytest.approx(pair.theirs.sigmas[0].item())


def test_trailing_timesteps_are_as_many_as_asked_for() -> None:
    for steps in range(1, 1001):
        scheduler = schedulers.EulerDiscreteScheduler(timestep_spacing="trailing")
        if steps % 7 == 0 or steps > 990:
            scheduler.set_timesteps(steps)
            assert len(scheduler.timesteps) == steps
            assert scheduler.timesteps[0] == 999
