"""Runs a script inside a real ComfyUI's Python and reads what its checks found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = os.environ.get("SIGMAGRAFT_COMFYUI")
REAL = [pytest.mark.slow, pytest.mark.skipif(not CHECKOUT, reason="no ComfyUI named")]
SAME = 1e-4


def checks(script: str, folder: Path) -> dict[str, Any]:
    """What `script`, a file beside this one, says after CHECKS; `folder` takes its files."""
    python = os.environ.get("SIGMAGRAFT_COMFYUI_PYTHON", sys.executable)
    ran = subprocess.run(
        [python, str(Path(__file__).with_name(script)), str(CHECKOUT), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("CHECKS ")]
    assert lines, ran.stderr[-4000:]
    return json.loads(lines[-1].removeprefix("CHECKS "))
