"""`python -m benchmarks.X` and `python -m training.X` have no package above theirs to import from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    path
    for folder in ("benchmarks", "training")
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


def relative(path: Path) -> Iterator[ast.ImportFrom]:
    """The relative imports of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node


def reached(path: Path, found: set[Path]) -> set[Path]:
    """A file and those it imports from its own folder, by whatever way."""
    found.add(path)
    for node in relative(path):
        names = [node.module] if node.module else [alias.name for alias in node.names]
        for name in names if node.level == 1 else []:
            other = path.with_name(f"{name}.py")
            if other.exists() and other not in found:
                reached(other, found)
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_command_imports_nothing_from_above_its_folder(path: Path) -> None:
    above = [
        (one.name, node.lineno) for one in reached(path, set()) for node in relative(one) if node.level > 1
    ]
    assert not above, f"import sigmagraft.(...) instead: {above}"
