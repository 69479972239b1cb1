"""The options that training commands share; each says only its own defaults."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

OPTIONS: dict[str, tuple[type, str | None]] = {
    "runs": (Path, "folder of all runs"),
    "steps": (int, None),
    "batch": (int, "examples a step and worker"),
    "count": (int, "latents in the cache"),
    "rate": (float, "learning rate"),
    "cool": (float, "share of the steps over which the rate falls to 0"),
    "seed": (int, None),
    "workers": (int, "processes, one a core"),
    "save_every": (int, "steps from checkpoint to checkpoint"),
    "out": (Path, "write what was trained into this folder at the end"),
}


def trainer(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser of --runs, --seed and the named options of OPTIONS with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in ({"runs": Path("training/runs"), "seed": 0} | defaults).items():
        kind, told = OPTIONS[name]
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=told)
    return parser
