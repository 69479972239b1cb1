"""Guidance and clips on the code of a real Forge and Forge Neo, without starting it: within 1e-4 of the runner's.

SIGMAGRAFT_FORGE and SIGMAGRAFT_NEO name checkouts with a venv of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
INSIDE = Path(__file__).with_name("forge_inside.py")


@pytest.mark.parametrize("name", ["forge", "neo"])
def test_walks_end_where_the_runners_end_and_leave_no_trace(name: str, tmp_path: Path) -> None:
    variable = f"SIGMAGRAFT_{name.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout of this web UI")
    root = Path(os.environ[variable])
    command = [root / "venv" / "bin" / "python", INSIDE, root, tmp_path, Path(pytest.__file__).parents[1]]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("CHECKS ")] or [
        done.stderr[-3000:]
    ]
    found = json.loads(line.removeprefix("CHECKS "))
    print(name, found)
    for check, value in found.items():
        assert value is True or (value > 1e-3 if "moves" in check else value < 1e-4), check
