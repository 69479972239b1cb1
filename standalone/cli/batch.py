"""`sigmagraft batch JOBS --devices all --out FOLDER`: many pictures over the devices of a machine or a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError
from ..progress import Progress
from . import options
from .parser import Parser, choice, number

if TYPE_CHECKING:
    from ..batch import Batch
    from ..batch_jobs import Job

ENGINES = ("processes", "ray")
OUT = "outputs/batch"


def run(argv: Sequence[str]) -> int:
    """Draw what is not drawn yet; print the new pictures' paths. 2 where jobs failed, 130 after Ctrl-C."""
    given = vars(_parser().parse(argv, words="jobs"))
    if "jobs" not in given:
        raise OptionError("no jobs", expected="a file with a JSON object a line")
    from ..batch import Batch
    from ..batch_jobs import LOADS, read_jobs

    usual = {name: given[name] for name in LOADS if name in given}
    jobs = read_jobs(given["jobs"], usual, given.get("seed", 0))
    with Progress(quiet=given.get("quiet", False)) as progress:
        batch = Batch(jobs, Path(given.get("out", OUT)).expanduser(), told=progress.drawn)
        batch.threads = given.get("threads")
        try:
            batch.run(given.get("devices", "all"), given.get("engine", "processes"))
        except KeyboardInterrupt:
            progress.note(f"stopped; {len(batch.drawn)} drawn, the same command goes on")
            return 130
        finally:
            progress.close()
            _report(batch, given)
    for job, why in sorted(batch.failed.items()):
        progress.note(f"job {job + 1}: {why}")
    return 2 if batch.failed else 0


def _report(batch: Batch, given: dict[str, Any]) -> None:
    if given.get("json"):
        print(json.dumps({"images": [_said(batch, job) for job in batch.jobs]}, indent=2, ensure_ascii=False))
    elif not given.get("quiet"):
        for job in batch.jobs:
            if job.number in batch.drawn:
                print(batch.path(job))


def _said(batch: Batch, job: Job) -> dict[str, Any]:
    path, failed = batch.path(job), batch.failed.get(job.number)
    return {"path": str(path) if path.exists() else None, "error": failed, **job.settings}


def _parser() -> Parser:
    made = Parser(
        "batch", "Draw a file of jobs, each one picture, over all devices. The same command goes on."
    )
    add = made.add_argument
    add(
        "jobs",
        nargs="*",
        metavar="JOBS",
        help='a file with a line such as {"prompt": "a cat", "steps": 20} a job',
    )
    add(
        "--devices",
        metavar="LIST",
        help="all (default), cuda, or such as cuda:0,cuda:2 or cpu:4 (four workers)",
    )
    add("--engine", type=choice(ENGINES), metavar="NAME", help="processes (default), or ray: a cluster")
    add("--out", metavar="FOLDER", help=f"default {OUT}")
    add(
        "--seed",
        type=number(int, 0, 2**63),
        metavar="N",
        help="of the first job that says none, counting up; 0",
    )
    add("--threads", type=number(int, 1, 1024), metavar="N", help="of each worker on the CPU; at most 4")
    add("--dtype", type=choice(options.DTYPES), metavar="NAME", help="of jobs that say none")
    add("--quiet", action="store_true", help="only errors")
    add("--json", action="store_true", help="print all jobs with their pictures as JSON")
    options.add_model(made)
    return made
