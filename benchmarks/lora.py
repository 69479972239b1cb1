"""Adapters on an SDXL-shaped UNet, beside diffusers with PEFT: `python -m benchmarks.lora --small`.

Each peer runs in a process of its own, on the same random weights and files; what both answer is compared. Seconds are
the best of several, memory is what adapters add to the model at most. `swap` takes merged adapters out and merges
another by their method names; `next prompt` is the same where a prompt names another adapter than the last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

from .lora_peers import PEERS, Setup, adapter_file, answers_agree

RANKS, COUNTS = (8, 64, 256), (1, 4)
SMALL = 64  # channels of the first level, of which SDXL has 320
HEAD = ("load", "fuse", "fuse again", "unfuse", "swap", "next prompt")
HEAD += ("step plain", "step apart", "step fused", "memory, MiB")


def main() -> None:
    """Prints a table, or JSON."""
    args = _parser().parse_args()
    channels = args.channels or (SMALL if args.small else 320)
    ranks = args.rank or (RANKS[:1] if args.small else RANKS)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for rank in ranks:
            for count in args.count or COUNTS:
                dtype = args.dtype or _usual(args.device)
                setup = Setup(folder, channels, rank, count, args.device, dtype, args.busy)
                rows.append((setup, _measured(setup)))
                if not args.json:
                    _show(*rows[-1])
    if args.json:
        print(json.dumps([{**vars(setup), "figures": figures} for setup, figures in rows], indent=2))


def _measured(setup: Setup) -> dict[str, dict[str, float]]:
    """Peer -> figure -> value. RuntimeError where the peers' answers differ."""
    for number in range(setup.count + 1):
        adapter_file(setup, number)
    found = {name: _in_process(name, setup) for name in PEERS}
    answers_agree(*(figures.pop("answers") for figures in found.values()))
    return found


def _in_process(name: str, setup: Setup) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.lora_peers", name, json.dumps(vars(setup))]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _show(setup: Setup, found: dict[str, dict[str, float]]) -> None:
    print(
        f"\n{setup.count} x rank {setup.rank}, {setup.channels} channels, {setup.dtype} on {setup.device}",
        flush=True,
    )
    print(f"{'':<14}" + "".join(f"{name:>14}" for name in found) + f"{'ratio':>9}")
    ours, theirs = found.values()
    for figure in HEAD:
        ratio = f"{ours[figure] / theirs[figure]:9.2f}" if theirs[figure] else ""
        print(f"{figure:<14}" + "".join(f"{own[figure]:14.4g}" for own in found.values()) + ratio, flush=True)


def _usual(device: str) -> str:
    return "fp32" if device == "cpu" else "fp16"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks.lora", description=(__doc__ or "").partition("\n")[0])
    add = made.add_argument
    add("--small", action="store_true", help="a narrow UNet of the same topology, rank 8: a minute")
    add("--channels", type=int, metavar="N", help="of the first level, a multiple of 64")
    add("--rank", type=int, action="append", metavar="N", help="may be repeated; default 8, 64, 256")
    add("--count", type=int, action="append", metavar="N", help="of adapters; may be repeated; default 1, 4")
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", choices=("fp32", "fp16", "bf16"), help="default fp32 on a CPU, else fp16")
    add("--busy", action="store_true", help="count the processor's seconds: other programs are running")
    add("--folder", help="where adapters are written for the time being")
    add("--json", action="store_true")
    return made


if __name__ == "__main__":
    main()
