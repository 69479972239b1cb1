"""The guidance nodes in a real ComfyUI: they draw what the host's own nodes of that name draw, and leave no trace."""

from __future__ import annotations

import os
from typing import Any

import pytest

from .inside import REAL, SAME, checks

pytestmark = REAL


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every check inside the host found."""
    return checks("guidance_inside.py", tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("name", ["pag", "sag", "freeu", "freeu v2", "apg"])
def test_it_is_the_hosts_own(found: dict[str, Any], name: str) -> None:
    assert found[name] < SAME
    assert found[f"{name} moves"] > 10 * SAME


@pytest.mark.skipif("SIGMAGRAFT_DYNTHRES" not in os.environ, reason="no sd-dynamic-thresholding named")
@pytest.mark.parametrize("name", ["dynamic threshold", "dynamic threshold by deviation"])
def test_it_is_the_extensions(found: dict[str, Any], name: str) -> None:
    test_it_is_the_hosts_own(found, name)


@pytest.mark.parametrize("name", ["pag", "freeu v2"])
def test_a_part_of_the_steps_is_neither_all_nor_none(found: dict[str, Any], name: str) -> None:
    assert min(found[f"{name} in a part"]) > 10 * SAME


def test_each_acts_and_all_go_together(found: dict[str, Any]) -> None:
    moves = {name: value for name, value in found.items() if name.endswith(" moves alone")}
    assert len(moves) == 7
    assert min(moves.values()) > 10 * SAME
    assert found["all at once is finite"]
    assert found["at cfg 1"]
    assert found["nothing stays"]
    assert "twice" in found["twice"]
