"""A batch over a cluster, through Ray Data: workers draw, the driver writes the files, so no disk need be shared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import OptionError
from .batch_jobs import THREADS, Job, worker_threads

if TYPE_CHECKING:
    from .batch import Batch


class Actor:
    """One worker of the cluster: jobs in, PNGs or errors out."""

    def __init__(self, device: str) -> None:
        import torch

        from .batch_draw import Drawer

        if device == "cpu":
            torch.set_num_threads(worker_threads())
        self.drawer = Drawer(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = Job(int(row["number"]), _read(row["settings"]))
        try:
            return {"number": job.number, "png": self.drawer.png(job), "error": ""}
        except Exception as error:
            return {"number": job.number, "png": b"", "error": f"{type(error).__name__}: {error}"}


def draw(batch: Batch, left: Sequence[Job], devices: str) -> None:
    """Draw `left` on the cluster that Ray knows, or on this machine: `devices` as `workers_of` reads them.

    A worker that dies is started again by Ray, with its job. MissingPartError without the package.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError:
        from .batch import missing_ray

        raise missing_ray() from None
    from .batch_draw import publish

    if not left:
        return
    kind, count = workers_of(devices, ray.cluster_resources() if ray.is_initialized() else _started(ray))
    pool = ray.data.ActorPoolStrategy(size=min(count, len(left)))
    given = [{"number": job.number, "settings": _text(job)} for job in left]
    # a block a job, made here: a task that cut them would wait for the CPUs that the pool holds
    rows = ray.data.from_items(given, override_num_blocks=len(given))
    takes = {"num_gpus": 1} if kind == "cuda" else {"num_cpus": 1}
    drawn = rows.map(Actor, fn_constructor_args=(kind,), compute=pool, **takes)
    by_number = {job.number: job for job in left}
    for row in drawn.iter_rows():
        job = by_number[int(row["number"])]
        if not row["error"]:
            publish(row["png"], batch.path(job))
        batch.count(job, row["error"] or None)


def workers_of(devices: str, there: Mapping[str, float]) -> tuple[str, int]:
    """(kind of device, workers): all the cluster's GPUs, else its CPUs by four; `cuda:N` and `cpu:N` are N of them.

    Which GPU a worker has is for Ray to say. OptionError for more than there are.
    """
    kind, _, number = devices.partition(":")
    if devices == "all":
        kind = "cuda" if there.get("GPU", 0) >= 1 else "cpu"
    if kind not in ("cuda", "cpu") or (number and not number.isdecimal()):
        raise OptionError(f"devices {devices!r} with ray", expected="all, cuda, cuda:N or cpu:N, N workers")
    most = int(there.get("GPU" if kind == "cuda" else "CPU", 0))
    count = int(number) if number else most if kind == "cuda" else max(most // THREADS, 1)
    if not 0 < count <= most:
        raise OptionError(f"{count} workers on {kind}", expected=f"at most the cluster's {most}")
    return kind, count


def _started(ray: Any) -> Mapping[str, float]:
    ray.init()
    return ray.cluster_resources()


def _text(job: Job) -> str:
    return json.dumps(dict(job.settings))


def _read(text: str) -> dict[str, Any]:
    return json.loads(text)
