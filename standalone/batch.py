"""Many pictures over the devices of one machine: a process a device, a queue of jobs, one picture a job.

A job is drawn when its file is there, and its file appears in one step. So a run that was stopped goes on where it was,
a worker that dies loses nothing but the picture it was drawing, and that one is drawn by another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import MissingPartError, OptionError, SigmaGraftError, nearest
from . import output
from .batch_jobs import THREADS, Job, make_jobs, read_jobs, worker_threads

ENGINES = ("processes", "ray")
ATTEMPTS = 3  # workers that may die of one job
_BOOT = Path(__file__).resolve().parents[1] / "bootstrap.py"
_START = (
    "import runpy, sys; runpy.run_path(sys.argv[1])['load']();"
    "from sigmagraft.standalone.batch_worker import main; main(sys.argv[2], sys.argv[3], int(sys.argv[4]))"
)
Command = Callable[[str, Path], Sequence[str]]


def draw_batch(
    jobs: str | Path | Iterable[Mapping[str, Any]],
    out: str | Path,
    devices: str = "all",
    engine: str = "processes",
    seed: int = 0,
    usual: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw every job of a file (JSON, an object a line) or list that is not drawn yet; the files, in the jobs' order.

    `devices`: all, or such as "cuda:0,cuda:2", "mps", "cpu:2" (two workers). `usual`: settings of jobs that do not
    say them. A job without a seed has `seed` + its number. OptionError, FileError; BatchError where jobs failed.
    """
    told = read_jobs(jobs, usual, seed) if isinstance(jobs, (str, Path)) else make_jobs(jobs, usual, seed)
    batch = Batch(told, Path(out).expanduser())
    batch.run(devices, engine)
    if batch.failed:
        number, why = next(iter(sorted(batch.failed.items())))
        raise BatchError(f"{len(batch.failed)} of {len(told)} jobs failed, job {number + 1}: {why}")
    return [batch.path(job) for job in told]


class BatchError(SigmaGraftError):
    """Some jobs of a batch could not be drawn; the others are."""


@dataclass
class Batch:
    """One run over jobs into a folder.

    Attributes:
        told: called with (done, total) after every picture, from any thread.
        started: called with (device, process id) of every worker.
        failed: job number -> why.
        drawn: numbers of the jobs drawn in this run; the others were there.
    """

    jobs: Sequence[Job]
    out: Path
    told: Callable[[int, int], None] = lambda done, total: None
    started: Callable[[str, int], None] = lambda device, pid: None
    command: Command | None = None
    threads: int | None = None
    failed: dict[int, str] = field(default_factory=dict)
    drawn: list[int] = field(default_factory=list)
    _queue: deque[Job] = field(default_factory=deque)
    _deaths: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: list[Worker] = field(default_factory=list)
    _before: int = 0  # jobs that were drawn by an earlier run
    _stopped: bool = False

    def path(self, job: Job) -> Path:
        """Where its picture is."""
        return self.out / job.name

    def run(self, devices: str = "all", engine: str = "processes") -> None:
        """Draw what is left. OptionError for devices that are not here; KeyboardInterrupt leaves what is finished."""
        if engine not in ENGINES:
            raise OptionError(f"engine {engine!r}", todo=nearest(engine, ENGINES))
        places = devices_of(devices) if engine == "processes" else []
        output.check_folder(self.out)
        left = [job for job in self.jobs if not self.path(job).exists()]
        self._before = len(self.jobs) - len(left)
        self.told(self._before, len(self.jobs))
        if engine == "ray":
            from .batch_ray import draw

            return draw(self, left, devices)
        self._queue = deque(left)
        threads = [
            threading.Thread(target=self._serve, args=(place,), daemon=True) for place in places[: len(left)]
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a join without a limit would not hear Ctrl-C
                    thread.join(0.2)
        finally:
            self._stopped = True
            for worker in list(self._workers):
                worker.stop()

    def count(self, job: Job, error: str | None = None) -> None:
        """A job is finished."""
        with self._lock:
            if error is None:
                self.drawn.append(job.number)
            else:
                self.failed[job.number] = error
            finished = self._before + len(self.drawn) + len(self.failed)
        self.told(finished, len(self.jobs))

    def _serve(self, device: str) -> None:
        """One worker's thread: the next job, until there is none; a worker that dies is replaced."""
        worker: Worker | None = None
        while (job := self._next()) is not None:
            if worker is None:
                try:
                    worker = Worker((self.command or self._command)(device, self.out))
                except OSError as error:
                    self.count(job, f"its worker did not start: {error}")
                    continue
                self._workers.append(worker)
                self.started(device, worker.pid)
            answer = worker.ask(job)
            if answer is not None:
                self.count(job, answer.get("error"))
                continue
            worker = None
            self._died(job)
        if worker is not None:
            worker.stop()

    def _next(self) -> Job | None:
        with self._lock:
            return self._queue.popleft() if self._queue and not self._stopped else None

    def _died(self, job: Job) -> None:
        """The worker of a job died: before the picture was published, or after."""
        if self.path(job).exists():
            return self.count(job)
        self._deaths[job.number] = self._deaths.get(job.number, 0) + 1
        if self._deaths[job.number] == ATTEMPTS:
            return self.count(job, f"its worker died {ATTEMPTS} times")
        with self._lock:
            self._queue.appendleft(job)

    def _command(self, device: str, out: Path) -> Sequence[str]:
        limit = self.threads or (worker_threads() if device == "cpu" else 0)
        return [sys.executable, "-c", _START, str(_BOOT), device, str(out), str(limit)]


class Worker:
    """One process that draws."""

    def __init__(self, command: Sequence[str]) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        # a group of its own: Ctrl-C is for the run as a whole to answer
        self._process = subprocess.Popen(list(command), start_new_session=True, **pipes)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, job: Job) -> dict[str, Any] | None:
        """The answer to one job; None where the process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(
                json.dumps({"number": job.number, "settings": dict(job.settings)}) + "\n"
            )
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if line.endswith("\n"):
            return json.loads(line)
        self.stop()
        return None

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def devices_of(text: str) -> list[str]:
    """`all`, or a list of devices; cpu:N is N workers. OptionError for one that is not here."""
    from .memory import available_devices, choose_device

    if text == "all":
        kinds = available_devices()
        text = next(kind for kind in ("cuda", "mps", "cpu") if kind in kinds)
        text = f"cpu:{max((os.cpu_count() or 1) // THREADS, 1)}" if text == "cpu" else text
    found: list[str] = []
    for name in text.split(","):
        kind, _, number = name.strip().partition(":")
        if kind == "cpu":
            count = int(number) if number.isdecimal() else 1 if not number else 0
            if count < 1:
                raise OptionError(f"devices {name!r}", expected="cpu:N, N workers")
            found += ["cpu"] * count
        elif kind == "cuda" and not number:
            import torch

            choose_device("cuda")
            found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        else:
            found.append(str(choose_device(name.strip())))
    return found


def missing_ray() -> MissingPartError:
    """What is said where Ray is not installed."""
    return MissingPartError("no package ray", todo='pip install "sigmagraft[ray]", or --engine processes')
