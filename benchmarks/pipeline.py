"""The runner beside diffusers on the same random weights, dtype and device: ratios of time and memory.

    python -m benchmarks.pipeline [--family sd15|sdxl] [--device cuda] [--dtype fp16] [--compile] [--rounds 5]

Each figure is the median over alternating rounds, ours / theirs, with the smallest and largest ratio of a round.
Loading and peak memory are measured in a fresh process a round, by ``benchmarks.pipeline_worker``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.pipeline_peers import PEERS, Peer, Setup, make_weights

HERE = Path(__file__).parent


def main() -> None:
    """Prints a line for each figure."""
    args = _arguments()
    folder = Path(
        args.weights or Path(tempfile.gettempdir()) / f"sigmagraft-bench-{args.family}-{args.dtype}"
    )
    if not (folder / "model_index.json").exists():
        print(f"writing random {args.family} weights to {folder}", flush=True)
        make_weights(folder, args.family, args.dtype)
    setup = Setup(str(folder), args.family, args.device, args.dtype, args.compile, args.size)
    print(
        f"ours / theirs on {args.device}, {args.dtype}, {args.size}x{args.size}{', compiled' * args.compile}"
    )
    if not args.compile:
        _fresh(setup, args.rounds)
    _same_process(setup, args.rounds, args.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=["sd15", "sdxl"], default="sd15")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["fp32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--size", type=int, default=512, help="pixels on a side")
    parser.add_argument("--steps", type=int, default=4, help="steps of the end-to-end run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--weights", help="folder for the random weights, kept between runs")
    return parser.parse_args()


def _fresh(setup: Setup, rounds: int) -> None:
    """Load to the first step, and the peak of a whole run, each in its own process."""
    rows = {
        name: [_worker(name, setup) for _ in range(1)] for name in PEERS
    }  # once unmeasured: the page cache
    rows = {name: [] for name in PEERS}
    for _ in range(rounds):
        for name in PEERS:
            rows[name].append(_worker(name, setup))
    for what in rows["ours"][0]:
        _report(what, *([row[what] for row in rows[name]] for name in ("ours", "theirs")))


def _worker(name: str, setup: Setup) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.pipeline_worker", name, json.dumps(setup.__dict__)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent, env=os.environ)
    return json.loads(out.stdout.splitlines()[-1])


def _same_process(setup: Setup, rounds: int, steps: int) -> None:
    """UNet step, VAE decode and a whole picture, peers taking turns in one process."""
    peers = {name: peer(setup) for name, peer in PEERS.items()}
    stages: dict[str, Callable[[Peer], float]] = {
        "UNet step": lambda peer: peer.time(peer.step),
        "VAE decode": lambda peer: peer.time(peer.decode),
        f"picture in {steps} steps": lambda peer: peer.time(lambda: peer.picture(steps)),
    }
    if setup.family == "sdxl":
        stages = {"UNet step": stages["UNet step"]}
    for what, stage in stages.items():
        times: dict[str, list[float]] = {name: [] for name in peers}
        for round_number in range(rounds + 1):  # the first warms up (and compiles)
            for name, peer in peers.items():
                seconds = stage(peer)
                if round_number:
                    times[name].append(seconds)
        _report(what + ", s", times["ours"], times["theirs"])


def _report(what: str, ours: list[float], theirs: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(ours) / statistics.median(theirs)
    print(
        f"{what:26s} {median:5.2f}x  ({min(ratios):.2f}..{max(ratios):.2f})   "
        f"ours {statistics.median(ours):.3g}, theirs {statistics.median(theirs):.3g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
