"""The guidance nodes in a real ComfyUI: they draw what the host's own nodes of that name draw, and leave no trace."""

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
    script, folder = Path(__file__).with_name("guidance_inside.py"), tmp_path_factory.mktemp("files")
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


@pytest.mark.parametrize("name", ["pag", "sag", "freeu", "freeu v2", "apg"])
def test_it_is_the_hosts_own(found: dict[str, Any], name: str) -> None:
    assert found[name] < SAME
    assert found[f"{name} moves"] > 10 * SAME


@pytest.mark.skipif("SIGMAGRAFT_DYNTHRES" not in os.environ, reason="no sd-dynamic-thresholding named")
@pytest.mark.parametrize("name", ["dynamic threshold", "dynamic threshold by deviation"])
def test_it_is_the_extensions(found: dict[str, Any], name: str) -> None:
    test_it_is_the_hosts_own(found, name)


def test_each_acts_and_all_go_together(found: dict[str, Any]) -> None:
    moves = {name: value for name, value in found.items() if name.endswith(" moves alone")}
    assert len(moves) == 7
    assert min(moves.values()) > 10 * SAME
    assert found["all at once is finite"]
    assert found["at cfg 1"]
    assert found["nothing stays"]
    assert "twice" in found["twice"]
