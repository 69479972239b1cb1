"""Copies of a scheduler, by copy and by pickle, before, in and after a run."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sigmagraft import schedulers
from sigmagraft.core.errors import OptionError

from .peers import CLASSES, SHAPE

every = pytest.mark.parametrize("name", CLASSES)
ways = pytest.mark.parametrize("way", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
Way = Callable[[Any], Any]


def ready(name: str) -> Any:
    cls = getattr(schedulers, name)
    scheduler = cls(**({"noise_sampler_seed": 3} if "noise_sampler_seed" in cls.row.defaults else {}))
    scheduler.set_timesteps(5)
    return scheduler


def led(scheduler: Any, x: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
    for t in scheduler.timesteps[begin:end]:
        draws = torch.Generator().manual_seed(int(1000 * float(t)) % 977)
        further = {"generator": draws} if "generator" in scheduler.row.step else {}
        x = scheduler.step(0.3 * scheduler.scale_model_input(x, t) + 0.1, t, x, **further).prev_sample
    return x


@every
@ways
def test_between_runs(name: str, way: Way) -> None:
    """A copy gives the same run, made before set_timesteps, after it or after a run."""
    x = torch.randn(SHAPE)
    fresh = way(getattr(schedulers, name)())
    assert fresh.num_inference_steps is None
    fresh.set_timesteps(5)
    scheduler = ready(name)
    before = way(scheduler)
    first = led(scheduler, x)
    after = way(scheduler)
    for each in (before, after):
        assert torch.equal(each.timesteps, scheduler.timesteps)
        assert each.num_inference_steps == 5
        assert dict(each.config) == dict(scheduler.config)
        assert torch.equal(led(each, x), first)


@every
@ways
def test_in_a_run(name: str, way: Way) -> None:
    """After any evaluation a copy goes on as the original does, or says that it cannot."""
    x, scheduler, refused = torch.randn(SHAPE), ready(name), 0
    count = len(scheduler.timesteps)
    for place in range(1, count):
        again = ready(name)
        middle = led(again, x, 0, place)
        if again._running._walk is not None:
            with pytest.raises(OptionError, match="set_timesteps first"):
                way(again)
            again.set_timesteps(5)
            assert way(again).step_index is None
            refused += 1
            continue
        other = way(again)
        assert other.step_index == again.step_index == place
        assert torch.equal(led(other, middle, place), led(again, middle, place))
    # only the middle of a step, and a method with a memory
    steps = [each.first for each in again._plan.evaluations[1:]]
    assert refused == (steps.count(False) if scheduler.row.alone else count - 1)


def test_timesteps_put_in_place_of_the_plan_s() -> None:
    scheduler = ready("DDIMScheduler")
    scheduler.timesteps, scheduler.begin_index = scheduler.timesteps[2:], 2
    other = copy.deepcopy(scheduler)
    assert torch.equal(other.timesteps, scheduler.timesteps)
    assert other.begin_index == 2


@pytest.mark.parametrize(
    ("name", "config", "laid"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, {"mu": 0.8}),
        ("EulerDiscreteScheduler", {}, {"num_inference_steps": None, "sigmas": [10.0, 3.0, 1.0, 0.0]}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, {}),
    ],
)
@ways
def test_a_run_laid_out_by_hand(name: str, config: dict[str, Any], laid: dict[str, Any], way: Way) -> None:
    """The places themselves are copied, whatever they were made from."""
    scheduler = getattr(schedulers, name)(**config)
    scheduler.set_timesteps(**{"num_inference_steps": 5, **laid})
    other, x = way(scheduler), torch.randn(SHAPE)
    assert torch.equal(other.sigmas, scheduler.sigmas)
    assert torch.equal(led(other, x), led(scheduler, x))
