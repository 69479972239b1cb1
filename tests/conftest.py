"""Makes the checkout importable as `sigmagraft` for every test, from any folder and folder name."""

from __future__ import annotations

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "bootstrap.py"))["load"]()
