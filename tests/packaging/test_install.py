"""install.py against a Python environment and a folder of wheels made for the test; no network."""

from __future__ import annotations

import base64
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

INSIDE = "Scripts/python.exe" if os.name == "nt" else "bin/python"


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """Write a wheel with one module and the given requirements."""
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {file: hashlib.sha256(text.encode()).digest() for file, text in files.items()}
    rows = [
        f"{file},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(files[file])}"
        for file, digest in digests.items()
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{about}/RECORD", "\n".join([*rows, f"{about}/RECORD,,"]) + "\n")


class Machine:
    """A checkout that holds only install.py and made-up requirements, an environment, and an index of wheels."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.checkout, self.index, self.active = folder / "check out", folder / "wheels", folder / "active"
        for made in (self.checkout / "locks", self.checkout / "standalone", self.index):
            made.mkdir(parents=True)
        shutil.copy(root / "install.py", self.checkout)
        (self.checkout / "requirements.txt").write_text("alpha>=1.0  # a comment\ngamma>=1.0\n")
        (self.checkout / "locks/run.txt").write_text("# pins\ntorch==2.13.0\nalpha==2.0\nnumpy==2.0\n")
        (self.checkout / "locks/test.txt").write_text("-r run.txt\npytest==9.0\n")
        (self.checkout / "locks/test-no-deps.txt").write_text("heavy==1.0\n")
        (self.checkout / "standalone/__main__.py").write_text("import sys\nprint(sys.prefix, sys.argv[1:])\n")
        for version in ("1.0", "2.0"):
            wheel(self.index, "alpha", version)
            wheel(self.index, "numpy", version)
        wheel(self.index, "gamma", "1.0", "alpha>=1.0")
        wheel(self.index, "delta", "1.0", "alpha>=2.0")
        wheel(self.index, "heavy", "1.0", "numpy<1.0")
        wheel(self.index, "pytest", "9.0")
        for version in ("1.9", "2.5", "2.13.0"):
            wheel(self.index, "torch", version)

    def environment(self) -> Path:
        """Make the environment that is active from now on, and answer its Python."""
        subprocess.run([sys.executable, "-m", "venv", str(self.active)], check=True)
        return self.active / INSIDE

    def run(self, python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
        left = {
            key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "VIRTUAL_ENV"))
        }
        env = {**left, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run([str(python), *arguments], env=env, capture_output=True, text=True)

    def install(self, python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(python, str(self.checkout / "install.py"), *arguments)

    def put(self, python: Path, *wanted: str) -> None:
        done = self.run(python, "-m", "pip", "install", *wanted)
        assert done.returncode == 0, done.stderr

    def versions(self, python: Path) -> dict[str, str]:
        lines = self.run(python, "-m", "pip", "list", "--format", "freeze").stdout.split()
        return {
            n: v for n, _, v in (line.partition("==") for line in lines) if n not in ("pip", "setuptools")
        }


@pytest.fixture
def machine(root: Path, tmp_path: Path) -> Machine:
    return Machine(root, tmp_path)


def test_nothing_missing_starts_no_pip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert runpy.run_path(str(root / "install.py"))["main"]([]) == 0


def test_nothing_missing_costs_little_and_imports_nothing(root: Path, python) -> None:
    code = f"""
import runpy, sys, time
status = runpy.run_path({str(root / "install.py")!r})["main"]([])
print(status, time.process_time(), "torch" in sys.modules, "numpy" in sys.modules, "pip" in sys.modules)
"""
    status, seconds, *imported = python("-c", code).stdout.split()
    assert status == "0"
    assert imported == ["False"] * 3
    assert float(seconds) < 0.5, "processor time of the whole process, Python's own start included"


def test_a_web_ui_s_launcher_gets_nothing_installed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = runpy.run_path(str(root / "install.py"))
    (tmp_path / "modules").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}elsewhere")
    assert not install["in_web_ui"]()
    (tmp_path / "modules" / "launch_utils.py").touch()
    assert install["in_web_ui"]()
    monkeypatch.setitem(install["main"].__globals__, "install_missing", lambda: pytest.fail("installs"))
    assert install["main"]([]) == 0


def test_an_unknown_word_is_answered_with_the_usage(machine: Machine) -> None:
    done = machine.install(sys.executable, "pictures")
    assert done.returncode == 2
    assert "install.py picture" in done.stdout


@pytest.mark.slow
def test_a_host_gets_what_is_missing_and_keeps_what_is_there(machine: Machine) -> None:
    python = machine.environment()
    without_torch = machine.install(python)
    assert without_torch.returncode == 1
    assert "PyTorch is missing" in without_torch.stderr
    assert machine.versions(python) == {}

    machine.put(python, "torch==2.5", "alpha==1.0")
    done = machine.install(python)
    assert done.returncode == 0, done.stderr
    assert machine.versions(python) == {"torch": "2.5", "alpha": "1.0", "gamma": "1.0"}

    (machine.checkout / "requirements.txt").write_text("alpha>=1.5\ngamma>=1.0\n")
    done = machine.install(python)
    assert done.returncode == 0
    assert "alpha 1.0 is there and stays" in done.stdout
    assert machine.versions(python)["alpha"] == "1.0"


@pytest.mark.slow
def test_what_would_move_a_version_fails_in_one_line(machine: Machine) -> None:
    python = machine.environment()
    machine.put(python, "torch==2.5", "alpha==1.0")
    (machine.checkout / "requirements.txt").write_text("alpha>=1.0\ndelta>=1.0\n")
    done = machine.install(python)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "delta" in done.stderr
    assert machine.versions(python) == {"torch": "2.5", "alpha": "1.0"}


@pytest.mark.slow
def test_a_fresh_machine_gets_its_own_environment_with_the_locked_versions(machine: Machine) -> None:
    base = sys._base_executable  # type: ignore[attr-defined]
    done = machine.install(base, "picture", "a red circle", "--seed", "1")
    assert done.returncode == 0, done.stderr
    own = machine.checkout / ".venv"
    assert f"{own} ['a red circle', '--seed', '1']" in done.stdout
    assert machine.versions(own / INSIDE) == {"torch": "2.13.0", "alpha": "2.0", "numpy": "2.0"}


@pytest.mark.slow
def test_the_active_environment_is_used_and_keeps_torch_and_numpy(machine: Machine) -> None:
    python = machine.environment()
    machine.put(python, "torch==2.5", "numpy==1.0", "alpha==1.0")
    done = machine.install(python, "picture", "a red circle")
    assert done.returncode == 0, done.stderr
    assert f"{machine.active} ['a red circle']" in done.stdout
    assert machine.versions(python) == {"torch": "2.5", "numpy": "1.0", "alpha": "2.0"}
    assert not (machine.checkout / ".venv").exists()

    machine.install(python, "test")
    assert machine.versions(python) == {
        **{"torch": "2.5", "numpy": "1.0", "alpha": "2.0"},
        **{"pytest": "9.0", "heavy": "1.0"},
    }


@pytest.mark.slow
def test_a_torch_that_is_too_old_is_named(machine: Machine) -> None:
    python = machine.environment()
    machine.put(python, "torch==1.9")
    done = machine.install(python, "picture", "a red circle")
    assert done.returncode == 1
    assert "PyTorch 1.9" in done.stderr
    assert machine.versions(python) == {"torch": "1.9"}
