"""A process that draws jobs: it reads a job a line and answers a line, until nobody asks any more."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..core.errors import SigmaGraftError
from .batch_jobs import Job


def main(device: str, out: str, threads: int) -> None:
    """Serve on standard input and output; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    if threads:
        torch.set_num_threads(threads)
    from .batch_draw import Drawer, publish

    drawer = Drawer(device)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        answer: dict[str, object] = {"number": job.number}
        try:
            answer["new"] = publish(drawer.png(job), Path(out) / job.name)
        except SigmaGraftError as error:
            answer["error"] = str(error)
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
