"""`sigmagraft lora bake MODEL A[:WEIGHT...] -o OUT`: adapters put into a checkpoint for good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .lora_parser import tell, wanted
from .parser import Parser


def run(argv: Sequence[str]) -> int:
    """Write the checkpoint and print its name."""
    args = _parser().parse(argv)
    out = Path(wanted(args, "out", "-o and what to write")).expanduser()
    from ...loras import parse_expression  # imports torch
    from ...loras.save_files import read_adapter
    from ..lora_bake import Baking
    from ..lora_source import locate_lora

    acting, names = [], []
    for text in args.files:
        name, strength, options = parse_expression(text)
        path = Path(name).expanduser()
        file = read_adapter(path if path.is_dir() and not options else locate_lora(name, options=options))
        acting.append((file, strength))
        names.append(Path(name).stem + text[len(name) :])
    Baking(acting, ", ".join(names), tell, hasattr(args, "force")).write(args.model, out)
    print(out)
    return 0


def _parser() -> Parser:
    made = Parser("lora bake", "Adapters put into a checkpoint for good; its layout and its header stay.")
    add = made.add_argument
    add("model", metavar="MODEL", help="the checkpoint: a file, a folder or a hub id")
    add(
        "files",
        nargs="+",
        metavar="FILE[:WEIGHT...]",
        help="the adapters, such as ink.safetensors:0.8:te=0.5:blocks=OUTALL",
    )
    add("-o", "--out", metavar="PATH", help="FILE.safetensors, or of a folder a new folder")
    add("--force", action="store_true", help="of an adapter made for another model, apply what fits")
    return made
