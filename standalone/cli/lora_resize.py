"""`sigmagraft lora resize FILE -o OUT --rank N`: an adapter as a LoRA of another rank, the best there is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import OptionError
from .lora_parser import add_writing, out_path, tell, wanted
from .parser import Parser, number

if TYPE_CHECKING:
    from ...loras.resize import Keep


def run(argv: Sequence[str]) -> int:
    """Write the adapter and print what was written."""
    args = _parser().parse(argv, words="file")
    source = Path(wanted(args, "file", "the adapter to resize")).expanduser()
    naming = getattr(args, "naming", "kohya")
    out, kept = out_path(args, naming), keep(args)
    from ...loras import bind  # imports torch
    from ...loras.resize import resized
    from ...loras.save import placed
    from ...loras.save_files import read_adapter, save_lora
    from ..lora_targets import base_of

    file = read_adapter(source)
    targets = base_of(file, getattr(args, "model", None)).targets
    tell(bind(file, targets).report)
    parts = [resized(one, kept) for one in placed(file, targets)]
    for path in save_lora(out, parts, targets, naming, embeddings=file.embeddings):
        print(path)
    return 0


def add_keep(parser: Parser) -> None:
    """--rank and --energy."""
    add = parser.add_argument
    add("--rank", type=number(int, 1, 10**6), metavar="N", help="at most this rank in every layer")
    add(
        "--energy",
        type=number(float, 1e-6, 1),
        metavar="X",
        help="as many ranks as hold this part of the change, squared",
    )


def keep(args: argparse.Namespace) -> Keep:
    """What is kept. OptionError where neither is given."""
    if not hasattr(args, "rank") and not hasattr(args, "energy"):
        raise OptionError("no rank", expected="--rank N, --energy X, or both")
    from ...loras.resize import Keep

    return Keep(getattr(args, "rank", None), getattr(args, "energy", None))


def _parser() -> Parser:
    made = Parser(
        "lora resize", "An adapter as a LoRA of another rank: the largest singular values of each change."
    )
    made.add_argument("file", nargs="*", metavar="FILE", help="the adapter")
    add_keep(made)
    add_writing(made)
    return made
