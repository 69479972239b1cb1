"""A batch over a cluster, through Ray Data: workers draw, the driver writes the files, so no disk need be shared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .batch_jobs import Job

if TYPE_CHECKING:
    from .batch import Batch


class Actor:
    """One worker of the cluster: jobs in, PNGs or errors out."""

    def __init__(self, device: str | None) -> None:
        from .batch_draw import Drawer

        self.drawer = Drawer(device or "cpu")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = Job(int(row["number"]), _read(row["settings"]))
        try:
            return {"number": job.number, "png": self.drawer.png(job), "error": ""}
        except Exception as error:
            return {"number": job.number, "png": b"", "error": f"{type(error).__name__}: {error}"}


def draw(batch: Batch, left: Sequence[Job], places: Sequence[str]) -> None:
    """Draw `left`; `places` tell how many workers there are and whether each takes a GPU of the cluster.

    A worker that dies is started again by Ray, with its job. MissingPartError without the package.
    """
    try:
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError:
        from .batch import missing_ray

        raise missing_ray() from None
    from .batch_draw import publish

    if not left:
        return
    gpu = places[0].startswith("cuda")
    # numbers of a GPU are the cluster's to give: a worker sees its own alone
    actors = {
        "fn_constructor_args": ("cuda" if gpu else places[0],),
        "concurrency": min(len(places), len(left)),
    }
    rows = ray.data.from_items([{"number": job.number, "settings": _text(job)} for job in left])
    drawn = rows.repartition(len(left)).map(Actor, num_gpus=1 if gpu else 0, **actors)
    by_number = {job.number: job for job in left}
    for row in drawn.iter_rows():
        job = by_number[int(row["number"])]
        if not row["error"]:
            publish(row["png"], batch.path(job))
        batch.count(job, row["error"] or None)


def _text(job: Job) -> str:
    return json.dumps(dict(job.settings))


def _read(text: str) -> dict[str, Any]:
    return json.loads(text)
