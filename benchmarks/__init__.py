"""Measurements of the package; run from the repository root as `python -m benchmarks.<name>`.

The package itself is made importable by bootstrap.py, so nothing needs to be installed.
"""

import runpy as _runpy
from pathlib import Path as _Path

_runpy.run_path(str(_Path(__file__).resolve().parent.parent / "bootstrap.py"))["load"]()
