"""In a process of its own, beside an extension with the same folder names: nobody gets the other's modules."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

HERE = Path(__file__).parent
NAMES = ("samplers", "core", "hosts", "loras", "standalone")
START = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from double import WebUI, ours
sys.path.pop(0)
"""


def python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def neighbour(tmp_path: Path) -> Path:
    """Another extension, whose script imports top-level packages of the names of our folders."""
    folder = tmp_path / "another extension"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (folder / "scripts").mkdir()
    lines = [f"import {', '.join(NAMES)}"]
    lines += [f"assert {name}.WHOSE == 'theirs', {name}.__file__" for name in NAMES]
    (folder / "scripts" / "theirs.py").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("kind", ["a1111", "forge"])
def test_an_extension_with_our_folder_names_works_beside_us(
    neighbour: Path, kind: str, ours_first: bool
) -> None:
    """`a1111` has a folder on sys.path while its script is loaded, `forge` keeps all of them there."""
    folders = [ROOT, neighbour] if ours_first else [neighbour, ROOT]
    code = f"""
host = WebUI({kind!r})
host.install(sys.modules.__setitem__)
for _ in range(2):
    # each start reads its own folder first, as the other one's modules are already there
    for name in {NAMES!r}:
        sys.modules.pop(name, None)
    path = list(sys.path)
    host.load_extensions(*[Path(folder) for folder in {[str(folder) for folder in folders]!r}])
    sys.path[:] = path
    print(len(list(ours(host))), len(host.scripts), *[sys.modules[name].WHOSE for name in {NAMES!r}])
"""
    first, second = python(code)
    assert first == second
    count, scripts, *whose = first.split()
    assert int(count) > 50
    assert scripts == "4"  # the samplers and the panels of controls, guidance and clips
    assert whose == ["theirs"] * len(NAMES)


def test_nothing_is_left_in_the_process_once_we_are_gone() -> None:
    code = f"""
import torch, logging, json, html, importlib.util, runpy
host = WebUI("neo")
host.install(sys.modules.__setitem__)
modules, path, hooks = set(sys.modules), list(sys.path), list(sys.meta_path)
host.load_extensions(Path({str(ROOT)!r}))
sys.path[:] = [entry for entry in sys.path if entry != {str(ROOT)!r}]
leaked = {{name for name in set(sys.modules) - modules if not name.startswith("sigmagraft")}}
files = {{name: getattr(sys.modules[name], "__file__", "") or "" for name in leaked}}
# the environment may stand in the folder itself, as the README's does
outside = (sys.prefix, sys.base_prefix)
theirs = {{name for name, file in files.items() if file.startswith({str(ROOT)!r}) and not file.startswith(outside)}}
host.load_extensions()
left = sorted(name for name in sys.modules if "sigmagraft" in name)
print(json.dumps([sorted(theirs), left, sys.path == path, sys.meta_path == hooks]))
"""
    (printed,) = python(code)
    assert json.loads(printed) == [[], [], True, True]


def test_a_reload_takes_the_code_as_it_is_then(tmp_path: Path) -> None:
    """After an update, "Apply and restart UI" is enough."""
    folder = tmp_path / "sigmagraft"
    left = shutil.ignore_patterns(
        "tests", ".*", "__pycache__", "training", "benchmarks", "assets", "docs", "outputs"
    )
    shutil.copytree(ROOT, folder, ignore=left)
    code = f"""
folder = Path({str(folder)!r})
host = WebUI("a1111")
host.install(sys.modules.__setitem__)
host.load_extensions(folder)
file = folder / "samplers" / "tcd.py"
file.write_text(file.read_text().replace('label="TCD"', 'label="TCD renewed"'))
host.load_extensions(folder)
print([entry.name for entry in ours(host) if "TCD" in entry.name])
"""
    assert python(code) == ["['TCD renewed']"]


def test_the_start_costs_a_host_little() -> None:
    """Processor time, since a test machine may be busy; a host has torch and numpy loaded by then."""
    code = f"""
import time, torch, numpy, logging, html, runpy
host = WebUI("neo")
host.install(sys.modules.__setitem__)
host.load_extensions(Path({str(ROOT)!r}))  # compiles
host.load_extensions()
start = time.process_time()
host.load_extensions(Path({str(ROOT)!r}))
for script in host.scripts:
    script().ui(False)
print(time.process_time() - start)
"""
    (seconds,) = python(code)
    assert float(seconds) < 0.3
