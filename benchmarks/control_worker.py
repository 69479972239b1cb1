"""One peer of benchmarks.control in a process of its own, answering requests of a line: JSON in, JSON out."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from .control_files import CASES, Case, Setup
from .control_peers import PEERS, Peer
from .lora_setup import Setup as Place
from .lora_worker import Clock
from .pipeline_worker import peak_kib

PLAIN = Case()


def main() -> None:
    """Answers until its input ends."""
    setup = Setup(**json.loads(sys.argv[2]))
    cuda = setup.device != "cpu"
    before = 0 if cuda else peak_kib()
    peer = PEERS[sys.argv[1]](setup)
    clock = Clock(Place("", 0, 0, 0, setup.device, setup.dtype, setup.busy))
    for line in sys.stdin:
        given = json.loads(line)
        case = CASES[given["case"]]
        if given["do"] == "begin":
            answer = _first(peer, case, before, cuda)
        else:
            answer = {"plain": _timed(peer, PLAIN, clock), "case": _timed(peer, case, clock)}
        print(json.dumps(answer), flush=True)


@torch.inference_mode()
def _first(peer: Peer, case: Case, before: int, cuda: bool) -> dict[str, Any]:
    """Both runs once, unmeasured: what they answer, what is counted, and the memory held at most."""
    _run(peer, PLAIN)
    peer.begin(case)
    gc.collect()
    _forget_peak(cuda)
    peer.encoded = peer.projected = 0
    end = _run(peer, case).float()
    held = torch.cuda.max_memory_allocated() if cuda else (peak_kib() - before) * 1024
    counted = {"hints encoded": peer.encoded, "images projected": peer.projected}
    return {"answers": [float(end.abs().mean()), float(end.std())], "memory, MiB": held / 2**20, **counted}


@torch.inference_mode()
def _timed(peer: Peer, case: Case, clock: Clock) -> float:
    """Seconds a step."""
    peer.turn_to(case)
    return clock.time(lambda: peer.run(case)) / peer.setup.steps


def _run(peer: Peer, case: Case) -> torch.Tensor:
    peer.turn_to(case)
    return peer.run(case)


def _forget_peak(cuda: bool) -> None:
    """The next peak is of what comes after; a process may do this to itself on Linux."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
