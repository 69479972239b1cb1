"""Clips in a real ComfyUI end where the runner's end, windows and controls included, and leave no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = os.environ.get("SIGMAGRAFT_COMFYUI")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHECKOUT, reason="no ComfyUI named")]
SAME = 1e-4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every check inside the host found."""
    python = os.environ.get("SIGMAGRAFT_COMFYUI_PYTHON", sys.executable)
    script, folder = Path(__file__).with_name("motion_inside.py"), tmp_path_factory.mktemp("files")
    ran = subprocess.run(
        [python, str(script), str(CHECKOUT), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("CHECKS ")]
    assert lines, ran.stderr[-4000:]
    return json.loads(lines[-1].removeprefix("CHECKS "))


def test_clips_end_where_the_runners_end(found: dict[str, Any]) -> None:
    walks = {name: value for name, value in found.items() if name != "state" and " moves" not in name}
    assert len(walks) == 7
    assert {name: value for name, value in walks.items() if value > SAME} == {}


def test_modules_act_and_leave_nothing(found: dict[str, Any]) -> None:
    assert min(value for name, value in found.items() if " moves" in name) > 100 * SAME
    assert found["state"] is True
