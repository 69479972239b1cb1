"""The jobs of a batch: a JSON object a line, each one picture, each with a file name of its own.

A job's file is named by its number and by what it says, so that a job that was changed is drawn anew and a job that
was drawn is known by its file alone: there is no other record to be lost.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..core.errors import FileError, OptionError, nearest
from .request import MAX_SEED, Request

# what a job may say of its model, as Pipeline.load takes it
LOADS = ("model", "vae", "text_encoder", "prediction", "shift", "variant", "subfolder", "revision", "dtype")
PICTURES = ("image", "mask")  # paths in a job
_DRAWS = tuple(each.name for each in fields(Request) if each.init and each.name != "batch")
_DIGITS = 10
THREADS = 4  # of a worker on the CPU, whatever their number: sums over other threads round otherwise


@dataclass(frozen=True)
class Job:
    """One picture: its number (from 0), its settings with a seed, and the name of its file."""

    number: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As 00007-3f2a91c04b.png; the digits are of the settings."""
        text = json.dumps(self.settings, sort_keys=True, ensure_ascii=False)
        return f"{self.number:05}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}.png"

    @property
    def loads(self) -> dict[str, Any]:
        """What it says of its model."""
        return {name: self.settings[name] for name in LOADS if name in self.settings}

    @property
    def draws(self) -> dict[str, Any]:
        """What the pipeline is called with; pictures by path."""
        return {name: value for name, value in self.settings.items() if name not in LOADS}


def worker_threads() -> int:
    """Of a worker on the CPU: the same whatever the number of workers and the engine."""
    return min(THREADS, os.cpu_count() or 1)


def read_jobs(path: str | Path, usual: Mapping[str, Any] | None = None, seed: int = 0) -> list[Job]:
    """The jobs of a file; `usual` is what they say where they say nothing, `seed` + number their seed.

    FileError with the line for what is no job.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read the jobs: {error}", path) from None
    found = []
    for line, text in enumerate(lines, start=1):
        if text.strip():
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise FileError(
                    f"line {line} is no JSON: {error}", path, '{"prompt": "a red circle"}'
                ) from None
    return make_jobs(found, usual, seed, path)


def make_jobs(
    told: Iterable[Any], usual: Mapping[str, Any] | None = None, seed: int = 0, where: object = "jobs"
) -> list[Job]:
    """Jobs of dictionaries. OptionError for a setting that nobody knows, a missing prompt, no job at all."""
    jobs = []
    for number, own in enumerate(told):
        if not isinstance(own, Mapping):
            raise OptionError(f"job {number + 1} is a {type(own).__name__}", where, "a JSON object")
        settings = {"seed": seed + number, **(usual or {}), **own}
        _check(settings, number, where)
        jobs.append(Job(number, settings))
    if not jobs:
        raise OptionError("no job", where, "a JSON object a line")
    return jobs


def _check(settings: Mapping[str, Any], number: int, where: object) -> None:
    known = (*LOADS, *_DRAWS)
    for name in settings:
        if name not in known:
            raise OptionError(f"job {number + 1}: unknown setting {name!r}", where, todo=nearest(name, known))
    if not isinstance(settings.get("prompt"), str):
        raise OptionError(f"job {number + 1}: no prompt", where, "prompt, a text: one job is one picture")
    seed = settings["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise OptionError(f"job {number + 1}: seed {seed!r}", where, f"an integer from 0 to {MAX_SEED}")
