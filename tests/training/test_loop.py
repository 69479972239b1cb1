"""The training loop: stopping and resuming changes nothing, workers average, the rate follows its plan."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from sigmagraft.training.loop import Average, Loop, Plan, generators


def made(folder: Path, steps: int) -> Loop:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))

    def loss(step: int) -> torch.Tensor:
        _, noise = generators(1, step)
        x = torch.randn(16, 4, generator=noise)
        return (net(x) - x.sum(dim=1, keepdim=True)).square().mean()

    return Loop(folder, net, Plan(steps, 1e-2, warm=4, save_every=5), loss, average=0.9)


def stop_at(loop: Loop, step: int) -> None:
    """Run until just after the checkpoint of `step`, as an interruption would leave it."""
    inner = loop.loss

    def loss(now: int) -> torch.Tensor:
        if now == step + 2:
            raise KeyboardInterrupt
        return inner(now)

    loop.loss = loss
    with pytest.raises(KeyboardInterrupt):
        loop.run()


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path):
    whole = made(tmp_path / "whole", 20)
    whole.run()
    stop_at(made(tmp_path / "broken", 20), 10)
    resumed = made(tmp_path / "broken", 20)
    assert resumed.step == 10
    resumed.run()
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name])
    assert whole.mean is not None
    assert resumed.mean is not None
    for name, value in whole.mean.shadow.items():
        assert torch.equal(value, resumed.mean.shadow[name])


def test_training_lowers_the_loss(tmp_path: Path):
    loop = made(tmp_path, 300)
    before = float(loop.loss(10_000))
    loop.run()
    assert float(loop.loss(10_000)) < 0.2 * before


def test_the_rate_warms_up_stays_and_cools_down():
    plan = Plan(100, 1.0, warm=10, cool=0.2)
    rates = [plan.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[99] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(rates[79:]))


def test_the_average_is_young_at_first_and_converges_to_constant_weights():
    net = nn.Linear(2, 2)
    mean = Average(net, 0.999)
    with torch.no_grad():
        net.weight.fill_(1.0)
    for step in range(1, 200):
        mean.update(net, step)
    assert torch.allclose(mean.shadow["weight"], net.weight, atol=1e-3)


def test_workers_and_steps_draw_different_data():
    draws = {float(generators(0, step, rank)[0].random()) for step in range(5) for rank in range(2)}
    assert len(draws) == 10
    assert float(generators(0, 3, 1)[0].random()) in draws
