"""Forge Neo, Forge, reForge and Automatic1111 load this file; everything else is in `hosts/webui`."""

import runpy
from pathlib import Path

SigmaGraft = runpy.run_path(str(Path(__file__).resolve().parents[1] / "bootstrap.py"))["web_script"]()
globals().update({panel.__name__: panel for panel in getattr(SigmaGraft, "companions", ())})
