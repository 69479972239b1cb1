"""Files that are samplers: a model's statistics for DPM-Solver-v3, and solvers fitted to a model."""

from __future__ import annotations

from pathlib import Path

from . import calibration_file, dpm_v3, statistics_file
from .spec import SamplerSpec

KINDS = (
    (statistics_file.is_statistics, dpm_v3.read),
    (calibration_file.is_calibration, calibration_file.read),
)


def of_file(name: str) -> SamplerSpec | None:
    """The sampler of the file of this name; None where the name is no such file's.

    Raises FileError where it cannot be read or is something else.
    """
    for is_one, read in KINDS:
        if is_one(name):
            return read(name, _changed(name))
    return None


def is_file(name: str) -> bool:
    """Whether a sampler's name is the path of such a file."""
    return any(is_one(name) for is_one, _ in KINDS)


def _changed(path: str) -> int:
    try:
        return Path(path).expanduser().stat().st_mtime_ns
    except OSError:
        return 0  # reading it tells what is wrong
