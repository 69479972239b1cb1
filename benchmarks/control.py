"""Controls and image prompts beside diffusers: `python -m benchmarks.control --small`.

What a step costs with ControlNets and with an IP-Adapter, on the same random weights in SD1.5's shape, of whole runs
with guidance (two halves a step): preparing the hint counts. Each peer is a process of its own; they take turns, a run
without and a run with the adapter each. Ratios are medians over the rounds with the smallest and largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from .control_files import CASES, Setup, write_files
from .control_peers import PEERS
from .lora import answers_agree

SMALL = {"channels": 64, "side": 128}
FULL = {"channels": 320, "side": 512}
Rows = dict[str, dict[str, list[float]]]  # peer -> plain, case -> seconds a step


class Worker:
    """A peer in its process."""

    def __init__(self, name: str, setup: Setup) -> None:
        words = [sys.executable, "-m", "benchmarks.control_worker", name, json.dumps(vars(setup))]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do: str, case: str) -> dict[str, Any]:
        """RuntimeError where it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, "case": case}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended in {case!r}")
        return json.loads(line)

    def end(self) -> None:
        self.process.communicate()


def main() -> None:
    """Prints a line for each case, or JSON."""
    args = _parser().parse_args()
    sizes = (SMALL if args.small else FULL) | {k: v for k in ("channels", "side") if (v := vars(args)[k])}
    dtype = args.dtype or ("fp32" if args.device == "cpu" else "fp16")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        setup = Setup(folder, steps=args.steps, device=args.device, dtype=dtype, busy=args.busy, **sizes)
        write_files(setup)
        workers = {name: Worker(name, setup) for name in PEERS}
        try:
            if not args.json:
                _head(setup)
            found = {case: _measured(case, workers, args) for case in args.case or CASES}
        finally:
            for worker in workers.values():
                worker.end()
    if args.json:
        print(json.dumps({"setup": vars(setup), "cases": found}, indent=2))


def _measured(case: str, workers: dict[str, Worker], args: argparse.Namespace) -> dict[str, Any]:
    """RuntimeError where the peers' answers differ."""
    first = {name: worker.ask("begin", case) for name, worker in workers.items()}
    answers_agree(*(one.pop("answers") for one in first.values()))
    rows: Rows = {name: {"plain": [], "case": []} for name in workers}
    for _ in range(args.rounds or (3 if args.small else 5)):
        for name, worker in workers.items():
            for what, seconds in worker.ask("time", case).items():
                rows[name][what].append(seconds)
    if not args.json:
        _show(case, rows, first)
    return {"seconds a step": rows, **first}


def _head(setup: Setup) -> None:
    picture = f"{setup.side}x{setup.side}"
    print(f"{setup.channels} channels, {picture}, {setup.steps} steps, {setup.dtype} on {setup.device}")
    print("seconds a step; `added` is what the adapter adds to a step without it")


def _show(case: str, rows: Rows, first: dict[str, dict[str, float]]) -> None:
    ours, theirs = rows.values()
    print(f"\n{case}")
    print("  step:  " + _ratio(ours["case"], theirs["case"], "ours", "diffusers"))
    for name, row in rows.items():
        print(f"  with / without, {name}:  " + _ratio(row["case"], row["plain"], "with", "without"))
    added = [[a - b for a, b in zip(row["case"], row["plain"], strict=True)] for row in rows.values()]
    if min(statistics.median(one) for one in added) > 0.05 * statistics.median(theirs["plain"]):
        print("  added:  " + _ratio(*added, "ours", "diffusers"))
    for what in next(iter(first.values())):
        told = ", ".join(f"{name} {one[what]:.4g}" for name, one in first.items())
        print(f"  {what}:  {told}", flush=True)


def _ratio(above: list[float], below: list[float], *names: str) -> str:
    """The ratio of medians, with the spread of the rounds' own."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    a, b = statistics.median(above), statistics.median(below)
    return f"{a / b:.2f}x ({min(each):.2f}..{max(each):.2f})   {names[0]} {a:.3g}, {names[1]} {b:.3g}"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks.control", description=(__doc__ or "").partition("\n")[0])
    add = made.add_argument
    add("--small", action="store_true", help="a narrow UNet of the same topology at 128x128: a minute")
    add("--channels", type=int, metavar="N", help="of the first level, a multiple of 32")
    add("--side", type=int, metavar="N", help="of the picture, pixels")
    add("--steps", type=int, default=4)
    add("--rounds", type=int, help="default 3 with --small, else 5")
    add("--case", action="append", choices=CASES, help="may be repeated; default all")
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", choices=("fp32", "fp16", "bf16"), help="default fp32 on a CPU, else fp16")
    add("--busy", action="store_true", help="count the processor's seconds: other programs are running")
    add("--folder", help="where weights are written for the time being")
    add("--json", action="store_true")
    return made


if __name__ == "__main__":
    main()
