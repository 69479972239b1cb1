"""Write locks/*.txt anew: `python .ci/renew_locks.py PYTHON3.10 PYTHON3.11`, the paths of two interpreters.

Each lock holds what pip resolves today for the oldest supported Python and for all newer ones, told apart by
environment markers. PyTorch's version is chosen here; what it pins by itself (CUDA's libraries, Triton) is
left to it. Nothing is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKERS = ('; python_version < "3.11"', '; python_version >= "3.11"')
TORCHS_OWN = re.compile(r"(nvidia|cuda)-|triton$")
RUN = ["torch==2.13.0", "-r", str(ROOT / "requirements.txt")]
TEST = [*RUN, "pytest", "pytest-xdist", "diffusers", "accelerate", "scipy", "psutil", "setuptools"]
CHECK = ["ruff", "pyright[nodejs]"]
HEAD = "# {what}: the versions the tests passed with. Written by .ci/renew_locks.py.\n"


def resolve(python: str, wanted: list[str], within: dict[str, str] | None = None) -> dict[str, str]:
    """The versions pip would install into an empty environment of `python`, by normalised name."""
    with tempfile.TemporaryDirectory() as folder:
        report, bounds = Path(folder, "report.json"), Path(folder, "constraints.txt")
        bounds.write_text("".join(f"{name}=={version}\n" for name, version in (within or {}).items()))
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), "--constraint", str(bounds), *wanted]
        subprocess.run(command, check=True)
        chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {re.sub(r"[-_.]+", "-", m["name"]).lower(): m["version"].partition("+")[0] for m in chosen}
    return {name: version for name, version in sorted(pins.items()) if not TORCHS_OWN.match(name)}


def merged(by_python: list[dict[str, str]]) -> list[str]:
    """One line for a pin both Pythons share, a line with a marker for one that holds for one of them."""
    old, new = by_python
    lines = []
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name):
            lines.append(f"{name}=={old[name]}")
            continue
        lines += [
            f"{name}=={pins[name]}{m}" for pins, m in zip((old, new), MARKERS, strict=True) if name in pins
        ]
    return lines


def write(name: str, what: str, lines: list[str]) -> None:
    (ROOT / "locks" / name).write_text(HEAD.format(what=what) + "\n".join(lines) + "\n")


def main(pythons: list[str]) -> None:
    everything = [resolve(python, TEST) for python in pythons]
    run = [resolve(python, RUN, pins) for python, pins in zip(pythons, everything, strict=True)]
    more = [
        {name: version for name, version in pins.items() if name not in some}
        for pins, some in zip(everything, run, strict=True)
    ]
    write("run.txt", "to make pictures", merged(run))
    write("test.txt", "to run the tests, on top of run.txt", ["-r run.txt", *merged(more)])
    write("check.txt", "to lint and check types", merged([resolve(python, CHECK) for python in pythons]))


if __name__ == "__main__":
    main(sys.argv[1:])
