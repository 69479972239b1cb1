"""One peer in a fresh process: seconds from nothing to the first UNet step, and the peak memory of a short run."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()


def peak_kib() -> int:
    """Most memory this process held so far; not ru_maxrss on Linux, which begins at what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Prints one JSON line."""
    import torch

    imported = time.perf_counter()  # torch itself takes as long for both
    from benchmarks.pipeline_peers import PEERS, Setup

    setup = Setup(**json.loads(sys.argv[2]))
    before = peak_kib()
    peer = PEERS[sys.argv[1]](setup)
    loaded = time.perf_counter()
    peer.time(peer.step)
    stepped = time.perf_counter()
    if setup.family == "sd15":
        peer.time(lambda: peer.picture(2))
    figures = {"load, s": loaded - imported, "load to first step, s": stepped - imported}
    if setup.device.startswith("cuda"):
        figures["peak memory, GiB"] = torch.cuda.max_memory_allocated() / 2**30
    else:
        figures["peak memory, GiB"] = (peak_kib() - before) / 2**20
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
