"""Imports inside the package are relative and point one way; loading the package loads nothing else."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import sigmagraft

MIDDLE = {"animate", "samplers", "loras", "controlnet", "guidance"}
MAY_IMPORT = {
    "core": {"core"},
    **{folder: {"core", folder} for folder in MIDDLE},
    "schedulers": {"core", "samplers", "schedulers"},
    "standalone": {"core", "schedulers", "standalone", *MIDDLE},
    "pipelines": {"core", "schedulers", "standalone", "pipelines", *MIDDLE},
    "hosts": {"core", "hosts", "schedulers", *MIDDLE},
}
CORE_STANDS_ON = {"torch", "safetensors", "numpy"}
HOSTS = {"comfy", "folder_paths", "modules", "modules_forge", "backend", "ldm_patched"}
# what else is there inside a host alone
OF_HOSTS = HOSTS | {
    "comfy_api",
    "comfy_extras",
    "nodes",
    "server",
    "latent_preview",
    "gradio",
    "fastapi",
    "launch",
}
ORACLES = {"diffusers", "k_diffusion"}


def imports(file: Path) -> list[tuple[int, str]]:
    """(level, dotted name) of each import statement, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.level, node.module))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, alias.name) for alias in node.names]
    return found


def ours(module: Path, level: int, name: str) -> tuple[str, ...]:
    """The path inside the package that a relative import of `module` names."""
    above = len(module.parent.parts) - (level - 1)
    assert above >= 0, f"{module} imports from above the package"
    return (*module.parent.parts[:above], *name.split("."))


def faults(root: Path, modules: list[Path]) -> list[str]:
    """Every import that breaks a rule, with the file it stands in."""
    top = {module.parts[0].removesuffix(".py") for module in modules} | {"sigmagraft"}
    found = []
    for module in modules:
        folder = module.parts[0]
        for level, name in imports(root / module):
            first = name.split(".")[0]
            if level == 0 and first in top:
                found.append(f"{module}: import of {name} must be relative")
            if level == 0 and first in HOSTS and folder != "hosts":
                found.append(f"{module}: only hosts/ may import {name}")
            if level == 0 and first in ORACLES and folder != "hosts":
                found.append(f"{module}: only tests and benchmarks may import {name}")
            if level == 0 and folder == "core" and first not in CORE_STANDS_ON | set(sys.stdlib_module_names):
                found.append(f"{module}: core may not import {name}")
            if level > 0 and folder in MAY_IMPORT:
                target = ours(module, level, name)
                if target[0] not in MAY_IMPORT[folder] | {"__version__"}:
                    found.append(f"{module}: {folder} may not import {'.'.join(target)}")
                starts_it = module.name == "__main__.py" or "cli" in module.parts
                if target[:2] == ("standalone", "cli") and not starts_it:
                    found.append(f"{module}: only the command line may import {'.'.join(target)}")
    return found


def test_every_import_is_relative_and_points_one_way(root: Path, modules: list[Path]) -> None:
    assert len(modules) > 30
    assert faults(root, modules) == []


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("samplers/a.py", "from ..standalone.load import x", "samplers may not import standalone.load"),
        ("samplers/a.py", "from .. import loras", "samplers may not import loras"),
        ("core/a.py", "def f():\n    from ..samplers import x", "core may not import samplers"),
        ("core/a.py", "import PIL", "core may not import PIL"),
        ("standalone/a.py", "from ..hosts.webui import x", "standalone may not import hosts.webui"),
        ("standalone/a.py", "from .cli.main import x", "only the command line"),
        ("standalone/a.py", "import samplers", "must be relative"),
        ("standalone/a.py", "from sigmagraft.core import x", "must be relative"),
        ("standalone/a.py", "import comfy.utils", "only hosts/"),
        ("samplers/a.py", "import k_diffusion", "only tests and benchmarks"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, line: str, words: str) -> None:
    (tmp_path / "samplers").mkdir()
    (tmp_path / "samplers/__init__.py").touch()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    (fault,) = faults(tmp_path, [Path("samplers/__init__.py"), Path(file)])
    assert words in fault


def test_every_module_can_be_imported(modules: list[Path]) -> None:
    for module in modules:
        if module.name not in ("__main__.py", "install.py"):
            parts = [part for part in module.with_suffix("").parts if part != "__init__"]
            try:
                importlib.import_module(".".join(("sigmagraft", *parts)))
            except ModuleNotFoundError as missing:
                # inside a host alone
                if parts[0] != "hosts" or (missing.name or "").split(".")[0] not in OF_HOSTS:
                    raise


def test_loading_the_package_loads_nothing_else(root: Path, python) -> None:
    code = f"""
import runpy, sys, time
load = runpy.run_path({str(root / "bootstrap.py")!r})["load"]
before, start = set(sys.modules), time.perf_counter()
module = load()
module.__version__, dir(module)
print(time.perf_counter() - start, *sorted(set(sys.modules) - before))
"""
    seconds, *loaded = python("-c", code).stdout.split()
    assert loaded == ["sigmagraft"]
    assert float(seconds) < 0.3


def test_what_the_package_offers_is_fetched_on_first_use() -> None:
    from sigmagraft.samplers import SAMPLERS, SCHEDULES
    from sigmagraft.standalone.pipeline import Pipeline

    assert sigmagraft.SAMPLERS is SAMPLERS
    assert sigmagraft.SCHEDULES is SCHEDULES
    assert sigmagraft.Pipeline is Pipeline
    assert {"SAMPLERS", "SCHEDULES", "Pipeline"} <= set(dir(sigmagraft))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(sigmagraft, "no_such_name")
    with pytest.raises(AttributeError, match="no_such_name"):
        sigmagraft.no_such_name  # noqa: B018
