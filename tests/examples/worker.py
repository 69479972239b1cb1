"""A process that runs examples one after another, each in a folder of its own: reads a request a line, answers a line.

Its environment names the hub; every picture's address is answered with one picture.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
import time
import traceback
import types
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Answer(io.BytesIO):
    """What urlopen gives."""


class Peer(types.ModuleType):
    """diffusers where scripts ask for sigmagraft; the pictures of the web and the device are ours."""

    def __getattr__(self, name: str) -> Any:
        import diffusers
        import diffusers.utils

        ours = sys.modules["sigmagraft"]
        if name in ("best_device", "load_image"):
            return getattr(ours, name)
        return getattr(diffusers, name, None) or getattr(diffusers.utils, name)


def prepare(picture: bytes) -> None:
    sigmagraft = runpy.run_path(str(ROOT / "bootstrap.py"))["load"]()
    sys.modules["sigmagraft"] = sigmagraft
    from sigmagraft.pipelines import pictures

    sys.modules["peer"] = Peer("peer")
    pictures.urlopen = lambda url, timeout: Answer(picture)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run one script's text with its standard output and files kept apart."""
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    printed, began = io.StringIO(), time.process_time()
    error = None
    sys.stdin = io.StringIO(request.get("stdin", ""))
    try:
        with redirect_stdout(printed):
            exec(compile(request["text"], request["name"], "exec"), {"__name__": "__main__"})
    except BaseException:
        error = traceback.format_exc()
    return {"printed": printed.getvalue(), "error": error, "seconds": time.process_time() - began}


def main() -> None:
    requests, answers = sys.stdin, sys.stdout
    sys.stdout = sys.stderr
    prepare(Path(sys.argv[1]).read_bytes())
    for line in requests:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
