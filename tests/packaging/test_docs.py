"""What the documents tell people to type exists: files that links name, options, and the two commands of CI."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import sigmagraft

ROOT = Path(sigmagraft.__file__).parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(document: Path) -> list[list[str]]:
    """Each line of the bash blocks that runs `sigmagraft`."""
    blocks = re.findall(r"```bash\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("sigmagraft ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link


def test_the_options_in_the_readme_exist(python: Callable) -> None:
    found = commands(ROOT / "README.md")
    assert len(found) >= 5
    known = python(ROOT / "standalone", "--help").stdout
    help_of: dict[str, str] = {}
    for line in found:
        command = line[1] if f"\n  {line[1]} " in known else "txt2img"
        if command not in help_of:
            help_of[command] = python(ROOT / "standalone", command, "--help").stdout
        for option in (word for word in line if word.startswith("--")):
            assert re.search(rf"{option}\b", help_of[command]), f"{command} has no {option}"


def test_ci_runs_what_the_readme_says() -> None:
    readme, ci = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    told = re.findall(r"^python3 (install\.py .*)$", readme, re.MULTILINE)
    assert len(told) == 2
    for command in told:
        assert f"python3 {command}" in ci
        assert f"py {command}" in readme


def test_the_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.]+\.(?:py|txt|toml))`", text))
    assert len(named) > 20
    packages = [file.parent for file in ROOT.glob("*/**/__init__.py")]
    folders = (ROOT, ROOT / "locks", *packages)
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []
