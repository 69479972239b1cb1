"""What made the bundled model: scenes, captions, and the trainings that stand on them (see README.md here).

Run from the repository root as `python -m training.train_vae` and so on; the package itself is made importable
by bootstrap.py, so nothing needs to be installed.
"""

import runpy as _runpy
from pathlib import Path as _Path

_runpy.run_path(str(_Path(__file__).resolve().parent.parent / "bootstrap.py"))["load"]()
