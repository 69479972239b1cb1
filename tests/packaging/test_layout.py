"""pyproject.toml, requirements.txt and the locks say what is true of the folder."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def read(file: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_every_folder_of_modules_is_a_listed_package(pyproject: dict[str, Any], modules: list[Path]) -> None:
    folders = {".".join(("sigmagraft", *module.parent.parts)) for module in modules}
    assert folders == set(pyproject["tool"]["setuptools"]["packages"])
    for folder in {module.parent for module in modules}:
        assert folder / "__init__.py" in modules, f"{folder} has no __init__.py"


def test_whatever_is_no_module_is_an_asset(root: Path, modules: list[Path]) -> None:
    for folder in {root / module.parts[0] for module in modules if len(module.parts) > 1}:
        others = [f for f in folder.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc", ".part")]
        stray = [file for file in others if file.relative_to(root).parts[:2] != ("standalone", "assets")]
        assert stray == [], "package-data in pyproject.toml covers standalone/assets alone"


def test_no_root_file_is_named_as_a_stdlib_module(root: Path) -> None:
    assert {file.stem for file in root.iterdir() if file.suffix in ("", ".py")}.isdisjoint(
        sys.stdlib_module_names
    )


def test_requirements_are_the_dependencies_without_torch(root: Path, pyproject: dict[str, Any]) -> None:
    listed = {str(requirement) for requirement in read(root / "requirements.txt")}
    dependencies = {str(Requirement(line)) for line in pyproject["project"]["dependencies"]}
    (torch,) = dependencies - listed
    assert Requirement(torch).name == "torch"
    assert listed < dependencies
    floor = runpy.run_path(str(root / "install.py"))["TORCH_FLOOR"]
    assert torch == f"torch>={floor}"


@pytest.mark.parametrize("lock", ["run.txt", "test.txt", "test-no-deps.txt", "check.txt"])
def test_a_lock_pins_each_project_once_for_each_python(root: Path, lock: str) -> None:
    pins = read(root / "locks" / lock)
    assert pins
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)
    for version in ("3.10", "3.11", "3.12", "3.13"):
        here = [
            pin.name for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": version})
        ]
        assert len(here) == len(set(here))


@pytest.mark.parametrize(
    ("locks", "extras"), [(["run.txt"], []), (["run.txt", "test.txt"], ["test", "bench"])]
)
def test_the_locks_hold_what_pyproject_asks_for(
    root: Path, pyproject: dict[str, Any], locks: list[str], extras: list[str]
) -> None:
    project = pyproject["project"]
    wanted = [
        *project["dependencies"],
        *(line for e in extras for line in project["optional-dependencies"][e]),
    ]
    pins = [pin for lock in locks for pin in read(root / "locks" / lock)]
    for requirement in map(Requirement, wanted):
        versions = [
            str(pin.specifier)[2:]
            for pin in pins
            if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        ]
        assert versions, f"{requirement} is in no lock"
        assert all(requirement.specifier.contains(version) for version in versions)


def test_k_diffusion_never_brings_its_requirements(root: Path) -> None:
    assert "k-diffusion" not in names(read(root / "locks/run.txt")) | names(read(root / "locks/test.txt"))
    assert names(read(root / "locks/test-no-deps.txt")) == {"einops", "k-diffusion", "lycoris-lora", "toml"}
