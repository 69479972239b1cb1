"""Adapters on an SDXL-shaped UNet, beside diffusers with PEFT: `python -m benchmarks.lora --small`.

Each peer runs in a process of its own, in turn, on the same random weights and files; what both answer is compared.
Seconds are the best of several, memory is what adapters add to the model at most, ratios are ours / theirs. `swap`
takes merged adapters out and merges another by their method names; `next prompt` is the same where a prompt names
another adapter than the last. Theirs merges in place, checks nothing unless asked to (`fuse checked`), and takes out by
subtracting, which leaves `not undone` weights other than they were; ours always checks, and keeps the originals.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from .lora_peers import PEERS
from .lora_setup import Setup, adapter_file, model_file

RANKS, COUNTS = (8, 64, 256), (1, 4)
SMALL = 64  # channels of the first level, of which SDXL has 320
HEAD = ("load", "fuse", "fuse again", "fuse checked", "unfuse", "swap", "next prompt")
HEAD += ("step plain", "step apart", "step fused", "memory, MiB", "not undone")
Figures = dict[str, list[float]]


def main() -> None:
    """Prints a table, or JSON."""
    args = _parser().parse_args()
    ranks = args.rank or (RANKS[:1] if args.small else RANKS)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for rank in ranks:
            for count in args.count or COUNTS:
                setup = _setup(args, folder, rank, count)
                rows.append((setup, _measured(setup, args.rounds)))
                if not args.json:
                    _show(*rows[-1])
    if args.json:
        print(json.dumps([{**vars(setup), "figures": figures} for setup, figures in rows], indent=2))


def _setup(args: argparse.Namespace, folder: str, rank: int, count: int) -> Setup:
    dtype = args.dtype or ("fp32" if args.device == "cpu" else "fp16")
    channels = args.channels or (SMALL if args.small else 320)
    side = args.side or (64 if channels >= 320 else 16)
    more = {"blocks": args.blocks, "side": side, "times": args.times, "mapped": args.mapped}
    return Setup(folder, channels, rank, count, args.device, dtype, args.busy, **more)


def _measured(setup: Setup, rounds: int) -> dict[str, Figures]:
    """Peer -> figure -> its value in each round. RuntimeError where the peers' answers differ."""
    for number in range(setup.count + 1):
        adapter_file(setup, number)
    if setup.mapped:
        model_file(setup)
    found: dict[str, Figures] = {name: {} for name in PEERS}
    for number in range(rounds):
        names = list(PEERS)[:: -1 if number % 2 else 1]
        one = {name: _in_process(name, setup) for name in names}
        answers_agree(*(figures.pop("answers") for figures in one.values()))
        for name, figures in one.items():
            for figure, value in figures.items():
                found[name].setdefault(figure, []).append(value)
    return found


def _in_process(name: str, setup: Setup) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.lora_worker", name, json.dumps(vars(setup))]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def answers_agree(ours: list[float], theirs: list[float]) -> None:
    """RuntimeError where the means of what both answer in the same states differ by a hundredth."""
    for one, other in zip(ours, theirs, strict=True):
        if abs(one - other) > 0.01 * abs(other):
            raise RuntimeError(f"the peers answer differently: {ours} and {theirs}")


def _show(setup: Setup, found: dict[str, Figures]) -> None:
    print(
        f"\n{setup.count} x rank {setup.rank}, {setup.channels} channels, {setup.depth[-1]} transformer blocks, "
        f"{setup.dtype} {'of a mapped file ' * setup.mapped}on {setup.device}"
    )
    print(f"{'':<14}" + "".join(f"{name:>16}" for name in found) + f"{'ratio':>9}", flush=True)
    ours, theirs = found.values()
    for figure in HEAD:
        values = "".join(f"{statistics.median(own[figure]):16.4g}" for own in found.values())
        print(f"{figure:<14}" + values + _ratio(ours[figure], theirs[figure]), flush=True)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median over rounds, with the smallest and the largest where there are several."""
    if not all(theirs):
        return ""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = f"  ({min(ratios):.2f} .. {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):9.2f}{spread}"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks.lora", description=(__doc__ or "").partition("\n")[0])
    add = made.add_argument
    add("--small", action="store_true", help="a narrow UNet of the same topology, rank 8: a minute")
    add("--channels", type=int, metavar="N", help="of the first level, a multiple of 64")
    add("--rank", type=int, action="append", metavar="N", help="may be repeated; default 8, 64, 256")
    add("--count", type=int, action="append", metavar="N", help="of adapters; may be repeated; default 1, 4")
    add("--blocks", type=int, default=10, metavar="N", help="transformer blocks of an attention at most")
    add("--side", type=int, metavar="N", help="of the latent; default 64, of a narrow UNet 16")
    add("--mapped", action="store_true", help="weights are those of a mapped file, not a copy in memory")
    add("--rounds", type=int, default=1, metavar="N", help="of both peers, in turn")
    add(
        "--times",
        type=int,
        default=3,
        metavar="N",
        help="that a thing is measured in a process; the best counts",
    )
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", choices=("fp32", "fp16", "bf16"), help="default fp32 on a CPU, else fp16")
    add("--busy", action="store_true", help="count the processor's seconds: other programs are running")
    add("--folder", help="where adapters are written for the time being")
    add("--json", action="store_true")
    return made


if __name__ == "__main__":
    main()
