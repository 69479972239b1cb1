"""The double as the modules of this process, and the package inside it as a pack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from . import double

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """ComfyUI's modules, in sys.modules; what a test loads is forgotten again."""
    before = set(sys.modules)
    made = double.modules()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield made
    for name in set(sys.modules) - before - set(made):
        del sys.modules[name]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The checkout in custom_nodes, under a name with a hyphen and a dot."""
    folder = tmp_path / "custom_nodes" / "Sigma-Graft.1"
    folder.parent.mkdir()
    folder.symlink_to(ROOT, target_is_directory=True)
    return folder
