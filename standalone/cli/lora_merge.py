"""`sigmagraft lora merge A:1.0 B:0.5 -o OUT --method svd --rank N`: several adapters as one LoRA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import OptionError
from .lora_parser import add_writing, out_path, tell
from .lora_resize import add_keep, keep
from .parser import Parser, choice, number

METHODS = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune")


def run(argv: Sequence[str]) -> int:
    """Write the merged adapter and print what was written."""
    args = _parser().parse(argv)
    naming, method = getattr(args, "naming", "kohya"), getattr(args, "method", "svd")
    weighted = [_weighted(text) for text in args.files]
    out = out_path(args, naming)
    if method in ("linear", "cat") and (hasattr(args, "rank") or hasattr(args, "energy")):
        raise OptionError(f"a rank for {method}", expected="--method svd, which cuts to one")
    from ...loras import bind  # imports torch
    from ...loras.merge import FACTORED, Merge, Source
    from ...loras.resize import Keep
    from ...loras.save import placed
    from ...loras.save_files import read_adapter, save_lora
    from ..lora_targets import base_of

    kept = Keep() if method in FACTORED else keep(args)
    files = [(read_adapter(path), weight) for path, weight in weighted]
    base = base_of(files[0][0], getattr(args, "model", None))
    for file, _ in files:
        tell(bind(file, base.targets).report)
    sources = [Source(file.path, placed(file, base.targets), weight) for file, weight in files]
    merge = Merge(method, kept, getattr(args, "density", 0.5), getattr(args, "seed", 0), base.weight)
    names = [name for file, _ in files for name in file.embeddings]
    if len(set(names)) < len(names):
        raise OptionError(f"one name for two textual inversions: {', '.join(sorted(names))}", "the adapters")
    embeddings = {name: value for file, _ in files for name, value in file.embeddings.items()}
    for path in save_lora(out, merge.merged(sources), base.targets, naming, embeddings=embeddings):
        print(path)
    return 0


def _weighted(text: str) -> tuple[Path, float]:
    """`FILE:0.5` or `FILE`."""
    name, colon, number_ = text.rpartition(":")
    try:
        weight = float(number_) if colon else math.nan
    except ValueError:
        weight = math.nan
    if math.isfinite(weight):
        return Path(name).expanduser(), weight
    return Path(text).expanduser(), 1.0


def _parser() -> Parser:
    made = Parser("lora merge", "Several adapters, of whatever family, as one LoRA.")
    add = made.add_argument
    add("files", nargs="+", metavar="FILE[:WEIGHT]", help="the adapters; a weight may be negative, default 1")
    add(
        "--method",
        type=choice(METHODS),
        metavar="NAME",
        help=f"{', '.join(METHODS)}; default svd. linear and cat take plain LoRAs, the others every family",
    )
    add_keep(made)
    add(
        "--density",
        type=number(float, 1e-3, 1),
        metavar="X",
        help="part of the values that pruning keeps; default 0.5",
    )
    add("--seed", type=number(int, 0, 2**63 - 1), metavar="N", help="of dare's choice; default 0")
    add_writing(made)
    return made
