"""The command line starts from a bare checkout, whatever its folder is called and wherever one stands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

AWKWARD = "sigma-graft copy (2)"


@pytest.mark.parametrize("start", ["standalone", "."])
def test_a_bare_checkout_runs(start: str, copy_checkout: Callable, python: Callable, tmp_path: Path) -> None:
    checkout = copy_checkout(AWKWARD)
    inside = python(start, "--help", cwd=checkout)
    outside = python(checkout / start, "--help", cwd=tmp_path)
    assert inside.stdout == outside.stdout
    assert "img2img" in inside.stdout


def test_the_commands_folder_leaves_the_module_path(copy_checkout: Callable, python: Callable) -> None:
    """`standalone/text.py` and its like must not be importable as `text` by everybody else."""
    checkout = copy_checkout(AWKWARD)
    (checkout / "standalone/cli/__init__.py").write_text(
        "import sys\ndef main(argv=None):\n    print(sys.path)\n    return 0\n"
    )
    for start in ("standalone", "."):
        assert AWKWARD not in python(checkout / start).stdout


def test_an_exit_status_reaches_the_shell(root: Path, tmp_path: Path) -> None:

    command = [sys.executable, str(root / "standalone"), "samplers", "--no-such-option"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 2


def test_pytest_runs_from_any_folder(copy_checkout: Callable, python: Callable, tmp_path: Path) -> None:
    checkout = copy_checkout(AWKWARD)
    test = checkout / "tests/whose/test_whose.py"
    test.parent.mkdir()
    test.write_text(
        f"import sigmagraft\ndef test_whose():\n    assert {AWKWARD!r} in sigmagraft.__file__\n",
        encoding="utf-8",
    )
    for cwd in (tmp_path, checkout, test.parent):
        assert "1 passed" in python("-m", "pytest", "-p", "no:cacheprovider", test, cwd=cwd).stdout
