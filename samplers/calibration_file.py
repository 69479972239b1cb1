"""Calibrations on disk: a small JSON file, read strictly. Nothing in it is run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import FileError, OptionError
from .calibration import CalibratedSpec, Calibration, calibrated
from .exponential_multistep import Step

KIND = "sigmagraft calibration"
FORMAT = 1
SUFFIX = ".json"
LARGEST = 1 << 20  # bytes; one of ours has a few thousand
TODO = "make it with `sigmagraft calibrate --model M --steps N -o FILE.json`"
KEYS = ("kind", "format", "version", "facts", "sigmas", "rows", "sha256")


def is_calibration(name: str) -> bool:
    """Whether a sampler's name is the path of such a file."""
    return name.lower().endswith(SUFFIX)


def save_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write it under a temporary name and publish it in one step. FileError where that fails."""
    path = Path(path).expanduser()
    told: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "version": __version__,
        "facts": dict(calibration.facts),
        "sigmas": list(calibration.sigmas),
        "rows": [{"decay": row.decay, "weights": list(row.weights)} for row in calibration.rows],
    }
    told["sha256"] = _checksum(told)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileError(
            f"cannot write: {error.strerror or error}", path, todo="choose another place"
        ) from None


def load_calibration(path: str | Path) -> Calibration:
    """Read it. FileError where it is absent, cut, edited, of another version or something else."""
    path = Path(path).expanduser()
    told = _parsed(path)
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise FileError("this is no calibration", path, todo=TODO)
    if told.get("format") != FORMAT:
        what = f"written by version {told.get('version')}, in a format that this one does not read"
        raise FileError(what, path, f"format {FORMAT}", TODO)
    missing = [name for name in KEYS if name not in told]
    if missing:
        raise FileError(f"damaged: {', '.join(missing)} not in it", path, todo=TODO)
    if _checksum(told) != told["sha256"]:
        raise FileError("its contents were changed since it was fitted", path, todo=TODO)
    try:
        rows = tuple(Step(float(row["decay"]), [float(w) for w in row["weights"]]) for row in told["rows"])
        return Calibration(tuple(map(float, told["sigmas"])), rows, told["facts"])
    except (OptionError, TypeError, KeyError, ValueError) as error:
        raise FileError(f"damaged: {error}", path, todo=TODO) from None


def _parsed(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise FileError("this is no calibration: it is too large", path, todo=TODO)
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read: {error.strerror or error}", path, todo=TODO) from None
    except (ValueError, RecursionError):
        raise FileError("this is no calibration: it cannot be read as JSON", path, todo=TODO) from None


def _checksum(told: Mapping[str, Any]) -> str:
    kept = {name: told[name] for name in told if name != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=8)
def read(path: str, changed: int) -> CalibratedSpec:
    """The sampler of a file that was last changed then."""
    return calibrated(load_calibration(path), path)
