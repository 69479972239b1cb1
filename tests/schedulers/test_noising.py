"""Noise put on clean samples equals diffusers', in training and in img2img."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from sigmagraft import schedulers

from .peers import CLASSES, SD, SHAPE, made

pytestmark = pytest.mark.filterwarnings("ignore")
NOISING = [name for name in CLASSES if hasattr(getattr(diffusers, name), "add_noise")]
# of these the table of sigmas is the other way round from the timesteps until set_timesteps
TURNED = ("DPMSolverMultistep", "DPMSolverSinglestep", "DEIS", "UniPC", "SASolver")
CLEAN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def both(name: str, **config: Any) -> tuple[Any, Any]:
    known = {k: v for k, v in {**SD, **config}.items() if k in getattr(schedulers, name).row.defaults}
    return getattr(schedulers, name)(**known), made(getattr(diffusers, name), known)


@pytest.mark.parametrize("name", NOISING)
def test_at_timesteps_of_the_run(name: str) -> None:
    """Each sample at its own timestep, one that a step begins at."""
    ours, theirs = both(name)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(8)
    for at in ([2, 4], [0, 6]):
        times = theirs.timesteps[at]
        torch.testing.assert_close(
            ours.add_noise(CLEAN, NOISE, times), theirs.add_noise(CLEAN, NOISE, times), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", [n for n in NOISING if hasattr(getattr(diffusers, n), "set_begin_index")])
def test_at_the_place_a_run_begins(name: str) -> None:
    ours, theirs = both(name)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(8)
        scheduler.set_begin_index(4)
    times = theirs.timesteps[4:5].repeat(2)
    torch.testing.assert_close(
        ours.add_noise(CLEAN, NOISE, times), theirs.add_noise(CLEAN, NOISE, times), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", [n for n in NOISING if "beta_start" in getattr(schedulers, n).row.defaults])
def test_in_training(name: str) -> None:
    """Any timestep of training, before set_timesteps and after: alphas_cumprod's own levels."""
    ours, _ = both(name)
    times = torch.tensor([981, 17])
    kept = ours.alphas_cumprod[times].reshape(2, 1, 1, 1)
    unit = kept.sqrt() * CLEAN + (1 - kept).sqrt() * NOISE
    expected = (
        unit / kept.sqrt() if name.startswith(("LMS", "Euler", "Heun", "KDPM2", "DPMSolverSDE")) else unit
    )
    torch.testing.assert_close(ours.add_noise(CLEAN, NOISE, times), expected, rtol=1e-4, atol=1e-4)
    ours.set_timesteps(7)
    torch.testing.assert_close(ours.add_noise(CLEAN, NOISE, times), expected, rtol=1e-4, atol=1e-4)
    if not name.startswith(TURNED):
        theirs = both(name)[1] if "set_timesteps" not in name else None
        if name in (
            "DDIMScheduler",
            "DDPMScheduler",
            "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "LCMScheduler",
        ):
            torch.testing.assert_close(theirs.add_noise(CLEAN, NOISE, times), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "TCDScheduler", "LCMScheduler"])
def test_velocity(name: str) -> None:
    ours, theirs = both(name)
    times = torch.tensor([981, 17])
    torch.testing.assert_close(
        ours.get_velocity(CLEAN, NOISE, times), theirs.get_velocity(CLEAN, NOISE, times), rtol=1e-4, atol=1e-4
    )


def test_velocity_of_a_timestep_is_that_of_its_level() -> None:
    """Of Euler too, where diffusers takes the level of timestep 999 - t."""
    euler, theirs = both("EulerDiscreteScheduler")
    ddim, _ = both("DDIMScheduler")
    times = torch.tensor([981.0, 17.0])
    expected = ddim.get_velocity(CLEAN, NOISE, times)
    torch.testing.assert_close(euler.get_velocity(CLEAN, NOISE, times), expected, rtol=1e-4, atol=1e-4)
    turned = ddim.get_velocity(CLEAN, NOISE, 999 - times)
    torch.testing.assert_close(theirs.get_velocity(CLEAN, NOISE, times), turned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
def test_flow(name: str) -> None:
    ours, theirs = both(name, shift=3.0)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(8)
    times = theirs.timesteps[5:6] if name.endswith("HeunDiscreteScheduler") else theirs.timesteps[[2, 5]]
    got, expected = (s.scale_noise(CLEAN, times, NOISE) for s in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_shift_that_is_set_counts_from_the_next_run_on() -> None:
    ours, theirs = both("FlowMatchEulerDiscreteScheduler", shift=3.0)
    for scheduler in (ours, theirs):
        scheduler.set_shift(5.0)
        scheduler.set_timesteps(6)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    assert ours.shift == 5.0
