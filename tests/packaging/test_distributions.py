"""The wheel and the sdist hold every package and asset, and what they install runs."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


@pytest.fixture
def checkout(copy_checkout: Callable[[str], Path]) -> Path:
    return copy_checkout("sigma-graft main")


def expected(root: Path, modules: list[Path]) -> set[str]:
    assets = [file for file in (root / "standalone/assets").rglob("*") if file.is_file()]
    files = {*modules, *(file.relative_to(root) for file in assets)}
    return {f"sigmagraft/{file.as_posix()}" for file in files if "__pycache__" not in file.parts}


def build_wheel(source: Path, into: Path, python: Callable) -> Path:
    python("-m", "pip", "wheel", *OFFLINE, "--wheel-dir", into, source)
    (built,) = into.glob("*.whl")
    return built


def test_the_wheel_holds_every_package_and_asset(
    checkout: Path, root: Path, modules: list[Path], tmp_path: Path, python: Callable
) -> None:
    names = set(zipfile.ZipFile(build_wheel(checkout, tmp_path / "out", python)).namelist())
    inside = {name for name in names if name.startswith("sigmagraft/")}
    assert inside == expected(root, modules)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sigmagraft"}


def test_a_wheel_of_the_sdist_is_the_same(
    checkout: Path, root: Path, modules: list[Path], tmp_path: Path, python: Callable
) -> None:
    backend = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))"
    python("-c", backend, tmp_path, cwd=checkout)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"tests/conftest.py", "locks/run.txt", "requirements.txt", "LICENSE"} <= names
    names = set(zipfile.ZipFile(build_wheel(archive, tmp_path / "out", python)).namelist())
    assert expected(root, modules) <= names


def test_an_installed_wheel_runs(checkout: Path, tmp_path: Path, python: Callable) -> None:
    built = build_wheel(checkout, tmp_path / "out", python)
    target = tmp_path / "site"
    python("-m", "pip", "install", *OFFLINE, "--target", target, built)
    as_module = python("-m", "sigmagraft", "--help", PYTHONPATH=str(target))
    assert "img2img" in as_module.stdout
    where = python("-c", "import sigmagraft; print(sigmagraft.__file__)", PYTHONPATH=str(target))
    assert where.stdout.strip() == str(target / "sigmagraft/__init__.py")
    script = target / "bin" / ("sigmagraft.exe" if os.name == "nt" else "sigmagraft")
    env = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run([str(script), "--help"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == as_module.stdout


def test_an_editable_install_follows_the_checkout(checkout: Path, tmp_path: Path, python: Callable) -> None:
    prefix = tmp_path / "prefix"
    python("-m", "pip", "install", *OFFLINE, "--ignore-installed", "--prefix", prefix, "--editable", checkout)
    (site,) = {file.parent for file in prefix.rglob("*.pth")}
    (checkout / "samplers/added_later.py").write_text("HERE = 1\n")
    code = f"""
import site
site.addsitedir({str(site)!r})
import sigmagraft.samplers.added_later
assert sigmagraft.samplers.added_later.HERE
print(sigmagraft.__file__)
"""
    assert python("-c", code).stdout.strip() == str(checkout / "__init__.py")
