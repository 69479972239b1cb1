"""Levels read off a host's table are the levels the table was made from."""

from __future__ import annotations

import pytest
import torch

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.levels import levels_from_table
from sigmagraft.samplers import NoiseLevels, schedule
from sigmagraft.samplers.levels import FlowLevels


def float32(levels: NoiseLevels) -> list[float]:
    """As hosts carry them."""
    return torch.tensor(levels.sigmas, dtype=torch.float32).tolist()


def test_discrete_levels() -> None:
    ours = NoiseLevels.discrete()
    found = levels_from_table(float32(ours))
    for sigma in (0.03, 0.5, 3.3, 14.6):
        assert found.timestep(sigma) == pytest.approx(ours.timestep(sigma), rel=1e-4, abs=1e-3)
    for name in ("normal", "karras", "simple", "ddim_uniform"):
        assert schedule(name, 9, found) == pytest.approx(schedule(name, 9, ours), rel=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("count", [1000, 10000])
def test_flow_levels(shift: float, count: int) -> None:
    ours = NoiseLevels.flow(shift)
    table = [ours.sigma_at(1000 * k / count) for k in range(1, count + 1)]
    told = levels_from_table(torch.tensor(table, dtype=torch.float32).tolist(), is_flow=True, shift=shift)
    untold = levels_from_table(table, is_flow=True)
    assert type(told) is type(ours)
    for found in (told, untold):
        assert found.is_flow
        assert found.sigma_max == pytest.approx(1.0)
        for time in (1.0, 250.0, 999.5):
            sigma = ours.sigma_at(time)
            assert found.sigma_at(time) == pytest.approx(sigma, rel=2e-3)
            assert found.time(found.sigma_at(time)) == pytest.approx(time)
        assert schedule("karras", 8, found) == pytest.approx(schedule("karras", 8, FlowLevels(shift, count)))


def test_a_table_of_another_shift_is_taken_as_it_is() -> None:
    ours = NoiseLevels.flow(3.0)
    found = levels_from_table(ours.sigmas, is_flow=True, shift=2.0)
    assert found.sigma_at(500.0) == pytest.approx(ours.sigma_at(500.0))


@pytest.mark.parametrize("table", [[], [1.0], [1.0, 0.5], [-1.0, 1.0], [0.1, 0.1]])
def test_a_table_that_does_not_rise_is_refused(table: list[float]) -> None:
    with pytest.raises(OptionError, match="do not rise"):
        levels_from_table(table)
