"""Clips in a real ComfyUI end where the runner's end, windows and controls included, and leave no trace."""

from __future__ import annotations

from typing import Any

import pytest

from .inside import REAL, SAME, checks

pytestmark = REAL


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every check inside the host found."""
    return checks("motion_inside.py", tmp_path_factory.mktemp("files"))


def test_clips_end_where_the_runners_end(found: dict[str, Any]) -> None:
    walks = {name: value for name, value in found.items() if name != "state" and " moves" not in name}
    assert len(walks) == 7
    assert {name: value for name, value in walks.items() if value > SAME} == {}


def test_modules_act_and_leave_nothing(found: dict[str, Any]) -> None:
    assert min(value for name, value in found.items() if " moves" in name) > 100 * SAME
    assert found["state"] is True
