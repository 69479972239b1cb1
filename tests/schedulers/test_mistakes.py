"""Mistakes in a loop: each is told by its argument, its value and what belongs there."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sigmagraft import schedulers
from sigmagraft.core.errors import OptionError

from .peers import CLASSES, SHAPE

every = pytest.mark.parametrize("name", CLASSES)


def ready(name: str, steps: int = 4) -> tuple[Any, Tensor]:
    scheduler = getattr(schedulers, name)()
    scheduler.set_timesteps(steps)
    return scheduler, torch.randn(SHAPE)


@every
@pytest.mark.parametrize(
    "wrong", [lambda x: x[:1], lambda x: x[..., :1], lambda x: torch.cat([x, x]), lambda x: x[0]]
)
def test_an_output_of_another_shape(name: str, wrong: Any) -> None:
    """Nothing is broadcast, and the scheduler stands where it stood."""
    scheduler, x = ready(name)
    t = scheduler.timesteps[0]
    with pytest.raises(OptionError, match=r"model_output has shape .*expected .*the sample's") as caught:
        scheduler.step(wrong(x), t, x)
    assert ("chunk" in str(caught.value)) == (wrong(x).numel() == 2 * x.numel())
    assert scheduler.step_index is None
    assert scheduler.step(x, t, x).prev_sample.shape == x.shape


@every
def test_sigmas_before_set_timesteps(name: str) -> None:
    """Whether there are any can be asked; those of training are diffusers'. Some of ours have them where theirs not."""
    ours, theirs = getattr(schedulers, name)(), getattr(diffusers, name)()
    assert hasattr(ours, "sigmas") >= hasattr(theirs, "sigmas")
    if ours.row.initial is None and hasattr(ours, "sigmas"):
        torch.testing.assert_close(ours.sigmas, torch.as_tensor(theirs.sigmas).float(), rtol=1e-5, atol=1e-7)
    ours.set_timesteps(4)
    assert ours.sigmas.isfinite().all()


@pytest.mark.parametrize("count", ["5", 5.0, [5]])
def test_a_number_of_steps_that_is_none(count: Any) -> None:
    with pytest.raises(OptionError, match=r"set_timesteps: num_inference_steps=.*expected an int"):
        schedulers.DDIMScheduler().set_timesteps(count)
    schedulers.DDIMScheduler().set_timesteps(torch.tensor(5))


@every
@pytest.mark.parametrize("time", [None, "a", torch.tensor([])])
def test_a_timestep_that_is_no_number(name: str, time: Any) -> None:
    scheduler, x = ready(name)
    with pytest.raises(OptionError, match=r"timestep=.*expected a number"):
        scheduler.step(x, time, x)
    with pytest.raises(OptionError, match=r"timestep=.*expected a number"):
        scheduler.index_for_timestep(time)


@every
@pytest.mark.parametrize("laid", [False, True])
def test_noise_at_a_timestep_out_of_range(name: str, laid: bool) -> None:
    """Neither wrapped round from the end nor taken for the nearest."""
    scheduler, x = getattr(schedulers, name)(), torch.randn(SHAPE)
    if laid:
        scheduler.set_timesteps(4)
    inside = (
        scheduler.timesteps[-1:].clamp(min=0).repeat(2) if scheduler.row.table else scheduler.timesteps[-1:]
    )
    assert scheduler.add_noise(x, x, inside).shape == x.shape
    for time in (5000, -5000):
        with pytest.raises(OptionError, match=f"add_noise: timesteps={time} .expected .* to "):
            scheduler.add_noise(x, x, torch.tensor([time, time]))
    with pytest.raises(OptionError, match="timesteps='a'"):
        scheduler.add_noise(x, x, "a")
