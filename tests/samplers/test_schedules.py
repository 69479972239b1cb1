"""Every registered schedule keeps the contract; the formulas that no other test checks; bad input."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import SCHEDULES, NoiseLevels, ScheduleSpec, schedule

LEVELS = {
    "sd": NoiseLevels.discrete(),
    "zero-snr": NoiseLevels.discrete(zero_snr=True),
    "edm": NoiseLevels.edm(),
    "flow": NoiseLevels.flow(),
    "flow-3": NoiseLevels.flow(3.0),
}
SD = LEVELS["sd"]


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 30, 64, 1000])
@pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))
@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_contract(spec: ScheduleSpec, levels: NoiseLevels, steps: int) -> None:
    """steps + 1 falling sigmas within the model's range, then 0."""
    sigmas = schedule(spec.name, steps, levels)
    assert len(sigmas) == steps + 1
    assert sigmas[-1] == 0.0
    assert all(a > b for a, b in pairwise(sigmas))
    assert levels.sigma_min * (1 - 1e-9) <= sigmas[-2]
    assert sigmas[0] <= levels.sigma_max


@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec.name)
def test_option_ranges(spec: ScheduleSpec) -> None:
    for option in spec.options:
        for bad in (option.low - 1, option.high + 1, math.nan, "much"):
            with pytest.raises(OptionError, match=option.name):
                schedule(spec.name, 10, SD, **{option.name: bad})
    with pytest.raises(OptionError, match="no_such"):
        schedule(spec.name, 10, SD, no_such=1)


def test_sgm_uniform_is_even_in_timesteps_without_the_last() -> None:
    times = np.linspace(999, 0, 13)[:-1]
    expected = np.exp(np.interp(times, np.arange(1000), np.log(SD.sigmas)))
    assert schedule("sgm_uniform", 12, SD)[:-1] == pytest.approx(expected.tolist())


def test_simple_takes_the_table_from_the_top() -> None:
    assert schedule("simple", 7, SD)[:-1] == [SD.sigmas[-(1 + int(i * 1000 / 7))] for i in range(7)]


@pytest.mark.parametrize("steps", [3, 12])
def test_shift_bends_even_times(steps: int) -> None:
    """On rectified flow `normal` is even in t, and sigma = 3 t / (1 + 2 t)."""
    times = np.linspace(1, 0.001, steps)
    assert schedule("normal", steps, LEVELS["flow-3"])[:-1] == pytest.approx(
        (3 * times / (1 + 2 * times)).tolist()
    )


def test_your_own_sigmas() -> None:
    assert schedule([14.0, 3, 1], None, SD) == [14.0, 3.0, 1.0, 0.0]
    assert schedule((14.0, 3, 0), 2, SD) == [14.0, 3.0, 0.0]
    with pytest.raises(OptionError, match="steps 5"):
        schedule([14.0, 3, 0], 5, SD)
    with pytest.raises(OptionError, match="rises"):
        schedule([3.0, 14.0], None, SD)
    with pytest.raises(OptionError, match="1 sigmas"):
        schedule([], None, SD)


@pytest.mark.parametrize("steps", [0, -3, 10_000, None])
def test_steps_out_of_range(steps: int | None) -> None:
    with pytest.raises(OptionError, match=rf"steps {steps}.*1 to 1000"):
        schedule("karras", steps, SD)


def test_unknown_schedule_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown schedule 'karas'.*'karras'"):
        schedule("karas", 10, SD)
