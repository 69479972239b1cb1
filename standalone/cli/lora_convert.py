"""`sigmagraft lora convert FILE -o OUT --naming NAME`: an adapter under another program's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .lora_parser import NAMINGS, add_writing, out_path, tell, wanted
from .parser import Parser


def run(argv: Sequence[str]) -> int:
    """Write the adapter and print what was written; nothing is written where anything of it cannot be held."""
    args = _parser().parse(argv, words="file")
    source = Path(wanted(args, "file", "the adapter to convert")).expanduser()
    naming = wanted(args, "naming", f"--naming {', '.join(NAMINGS)}")
    out = out_path(args, naming)
    from ...loras import bind  # imports torch
    from ...loras.save import placed
    from ...loras.save_files import read_adapter, save_lora
    from ..lora_targets import base_of

    file = read_adapter(source)
    targets = base_of(file, getattr(args, "model", None)).targets
    tell(bind(file, targets).report)
    for path in save_lora(out, placed(file, targets), targets, naming, file.metadata, file.embeddings):
        print(path)
    return 0


def _parser() -> Parser:
    made = Parser("lora convert", "An adapter under another program's names; its values stay as they are.")
    made.add_argument(
        "file", nargs="*", metavar="FILE", help="the adapter; or a folder that PEFT or `convert` saved"
    )
    add_writing(made)
    return made
