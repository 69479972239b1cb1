"""What the packaging tests share: the checkout's files, and copies of it under awkward names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_INSTALLED = {"tests", "training", "benchmarks", "docs", "locks", "scripts", "build", "dist", "outputs"}
LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "outputs", "runs")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules(root: Path) -> list[Path]:
    """Every Python file that is installed, relative to the checkout."""
    files = (file.relative_to(root) for file in root.rglob("*.py"))
    return sorted(f for f in files if f.parts[0] not in NOT_INSTALLED and not f.parts[0].startswith("."))


@pytest.fixture
def copy_checkout(root: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copy the checkout, without what git ignores, into a folder of the given name."""

    def copy(name: str) -> Path:
        return shutil.copytree(root, tmp_path / name, ignore=LEFT_BEHIND)

    return copy


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run this Python with arguments in an empty folder; a failure shows what it printed."""

    def run(*arguments: object, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    return run
