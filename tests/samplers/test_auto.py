"""The choice of `auto`: the best of what was measured, at the nearest number of steps."""

from __future__ import annotations

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.samplers import NoiseLevels
from sigmagraft.samplers.auto import choose
from sigmagraft.samplers.auto_table import CASES, TABLE
from sigmagraft.samplers.general import GENERAL


def test_every_case_is_measured_and_its_ways_serve_it() -> None:
    ways = {way.label: way for way in GENERAL}
    assert set(CASES) == set(TABLE) == {(flow, guided) for flow in (False, True) for guided in (False, True)}
    for (flow, _), rows in TABLE.items():
        levels = NoiseLevels.flow(3.0) if flow else NoiseLevels.discrete()
        for steps, (label, error, other, larger) in rows.items():
            assert label != other
            assert 0.0 < error <= larger
            assert ways[label].serves(levels)
            assert len(ways[label].sigmas(steps, levels)) == steps + 1


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("guidance", [1.0, 7.0])
@pytest.mark.parametrize("steps", [1, 4, 7, 12, 28, 100])
def test_a_choice_serves_the_model_at_any_number_of_steps_and_says_why(
    flow: bool, guidance: float, steps: int
) -> None:
    choice = choose(steps, flow, guidance)
    levels = NoiseLevels.flow(3.0) if flow else NoiseLevels.discrete()
    assert choice.way.serves(levels)
    assert choice.reason.startswith(f"{choice.way.label}: error ")
    assert CASES[flow, guidance > 1.5] in choice.reason


def test_the_nearest_number_of_steps_is_taken() -> None:
    rows = TABLE[False, False]
    assert choose(6, False, 0.0).way.label == rows[6][0]
    assert choose(1000, False, 1.0).way.label == rows[max(rows)][0]
    with pytest.raises(OptionError, match="steps 0"):
        choose(0, False, 1.0)
