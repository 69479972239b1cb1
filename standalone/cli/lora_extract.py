"""`sigmagraft lora extract BASE TUNED -o OUT --rank N`: what a tuned model has that its base has not, as an adapter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ...core.errors import OptionError
from .lora_parser import add_writing, out_path
from .lora_resize import add_keep, keep
from .parser import Parser, choice, number

KINDS = ("lora", "locon", "full")
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def run(argv: Sequence[str]) -> int:
    """Write the adapter, print what was written, and say on the error stream what it does not hold."""
    args = _parser().parse(argv)
    kind, naming = getattr(args, "kind", "lora"), getattr(args, "naming", "kohya")
    out = out_path(args, naming)
    if kind == "full":
        _refuse_ranks(args)
    kept = None if kind == "full" else keep(args)
    import torch

    from ...loras.extract import Extract, Models, common
    from ...loras.resize import Keep
    from ...loras.save_files import save_lora
    from ..lora_targets import named

    base, tuned = (named(path) for path in args.models)
    targets = common(base.targets, tuned.targets)
    spatial = Keep(args.conv_rank, kept and kept.energy) if hasattr(args, "conv_rank") else None
    dtype = getattr(torch, DTYPES[getattr(args, "dtype", "fp32")])
    extract = Extract(kind, kept or Keep(), spatial, dtype)
    parts = list(extract.parts(Models(targets, base.stored, tuned.stored)))
    for reason, count in extract.left.items():
        print(f"sigmagraft: {count} {reason} differ too, left out (--kind {_holds(reason)})", file=sys.stderr)
    if not parts:
        raise OptionError(
            "nothing to extract: the two models are the same",
            ", ".join(args.models),
            "a base and a tuned model",
        )
    for path in save_lora(out, parts, targets, naming):
        print(path)
    return 0


def _refuse_ranks(args: argparse.Namespace) -> None:
    given = next((name for name in ("rank", "energy", "conv_rank") if hasattr(args, name)), None)
    if given:
        raise OptionError(f"--{given.replace('_', '-')} with --kind full", expected="--kind lora or locon")


def _holds(reason: str) -> str:
    return "locon or full" if reason == "convolutions" else "full"


def _parser() -> Parser:
    made = Parser("lora extract", "What a tuned model has that its base has not, as an adapter.")
    add = made.add_argument
    add("models", nargs=2, metavar="MODEL", help="the base and the tuned model: files, folders or hub ids")
    add(
        "--kind",
        type=choice(KINDS),
        metavar="NAME",
        help="lora (linear layers and 1x1 convolutions, the default), locon (all convolutions too), or full: every "
        "difference as it is",
    )
    add_keep(made)
    add("--conv-rank", type=number(int, 1, 10**6), metavar="N", help="of convolutions; default as --rank")
    add(
        "--dtype",
        type=choice(DTYPES),
        metavar="NAME",
        help=f"{', '.join(DTYPES)}; default fp32, which is exact",
    )
    add_writing(made, model=False)
    return made
