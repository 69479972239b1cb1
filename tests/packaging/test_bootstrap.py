"""The checkout takes the name `sigmagraft` and leaves nothing else behind in the process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

OURS = ("__init__.py", "bootstrap.py", "core", "samplers")


def small_copy(root: Path, folder: Path) -> Path:
    """A copy of the checkout without the standalone runner and its assets."""
    folder.mkdir(parents=True)
    for name in OURS:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    return folder


def test_neither_path_nor_top_level_names_are_left(root: Path, python: Callable) -> None:
    code = f"""
import runpy, sys
path = list(sys.path)
load = runpy.run_path({str(root / "bootstrap.py")!r})["load"]
module = load()
from sigmagraft.core.errors import SigmaGraftError
assert sys.path == path
assert not {{"samplers", "core", "standalone", "bootstrap"}} & set(sys.modules)
assert load() is module is sys.modules["sigmagraft"]
assert SigmaGraftError.__module__ == "sigmagraft.core.errors"
"""
    python("-c", code)


def test_two_extensions_with_the_same_folder_names(root: Path, tmp_path: Path, python: Callable) -> None:
    """A host that puts every extension's root on sys.path hands nobody somebody else's `samplers`."""
    other = tmp_path / "another extension"
    for name in ("samplers", "core"):
        (other / name).mkdir(parents=True)
        (other / name / "__init__.py").write_text("WHOSE = 'theirs'\n")
    code = f"""
import runpy, sys
from importlib.util import find_spec
sys.path[:0] = [{str(other)!r}, {str(root)!r}]
runpy.run_path({str(root / "bootstrap.py")!r})["load"]()
import sigmagraft.core, samplers, core
assert samplers.WHOSE == core.WHOSE == "theirs"
assert sigmagraft.core.__file__.startswith({str(root)!r})
assert find_spec("sigmagraft.samplers").origin.startswith({str(root)!r})
"""
    python("-c", code)


def test_a_second_copy_is_refused_by_both_folders_names(root: Path, tmp_path: Path, python: Callable) -> None:
    copy = small_copy(root, tmp_path / "second")
    code = f"""
import runpy
runpy.run_path({str(root / "bootstrap.py")!r})["load"]()
try:
    runpy.run_path({str(copy / "bootstrap.py")!r})["load"]()
except ImportError as error:
    print(error)
"""
    printed = python("-c", code).stdout
    assert str(root / "__init__.py") in printed
    assert str(copy) in printed


def test_a_load_that_fails_leaves_no_module(tmp_path: Path, root: Path, python: Callable) -> None:
    copy = small_copy(root, tmp_path / "broken")
    (copy / "__init__.py").write_text("raise RuntimeError('broken')")
    code = f"""
import runpy, sys
try:
    runpy.run_path({str(copy / "bootstrap.py")!r})["load"]()
except RuntimeError:
    print("sigmagraft" in sys.modules)
"""
    assert python("-c", code).stdout.strip() == "False"


def test_loaded_under_a_path_like_name(root: Path, tmp_path: Path, python: Callable) -> None:
    """ComfyUI loads custom nodes under their path; relative imports have to hold there."""
    copy = small_copy(root, tmp_path / "custom nodes" / "sigma-graft")
    code = f"""
import importlib.util, sys
name = {str(copy).replace(".", "_x_")!r}
spec = importlib.util.spec_from_file_location(name, {str(copy / "__init__.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert not hasattr(module, "WEB_DIRECTORY")
assert "euler" in module.SAMPLERS
assert module.SAMPLERS["euler"].__module__.startswith(name)
assert "sigmagraft" not in sys.modules
"""
    python("-c", code)
