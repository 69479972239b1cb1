"""`sigmagraft lora inspect FILE`: what an adapter is, which of its tensors are used, how much each block changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import OptionError
from .inspect_file import clean
from .parser import Parser
from .table import dump, show

if TYPE_CHECKING:
    from ...loras.measure import BlockNorm
    from ..lora_targets import Base

HEAD = ["block", "changes", "norm", "of the weight"]


def run(argv: Sequence[str]) -> int:
    """Print the report, or JSON."""
    args = _parser().parse(argv, words="file")
    if not getattr(args, "file", ""):
        raise OptionError("no file", expected="the adapter file to inspect")
    from ...loras import read_lora  # imports torch
    from ...loras.bind import examine
    from ...loras.measure import block_norms
    from ..lora_targets import base_of

    file = read_lora(Path(args.file))
    base = base_of(file, getattr(args, "model", None))
    bound = examine(file, base.targets)
    norms = block_norms(bound, base.targets.shapes, base.weight)
    if hasattr(args, "json"):
        blocks = {name: vars(norm) | {"relative": norm.relative} for name, norm in norms.items()}
        dump(bound.report.as_dict() | {"model": _model(base), "blocks": blocks})
        return 0
    lines = [*bound.report.lines(hasattr(args, "keys")), f"{'model':<11}{_model(base)}"]
    print("\n".join(clean(line) for line in [*lines, *_table(norms)]))
    return 0


def _model(base: Base) -> str:
    return f"{base.targets.label}" + (", as published (--model names another)" if base.guessed else "")


def _table(norms: Mapping[str, BlockNorm]) -> Iterator[str]:
    rows = [
        [name, str(norm.changes), _number(norm), "" if norm.relative is None else f"{norm.relative:.2%}"]
        for name, norm in norms.items()
    ]
    if rows:
        yield ""
        yield from show([HEAD, *rows]).splitlines()


def _number(norm: BlockNorm) -> str:
    if not norm.unknown:
        return f"{norm.change:.4g}"
    some = f"{norm.change:.4g}, " if norm.change else ""
    return f"{some}{norm.unknown} depend on the weights: name the model with --model"


def _parser() -> Parser:
    made = Parser("lora inspect", "What an adapter file is, and which of its tensors are used.")
    add = made.add_argument
    add("file", nargs="*", metavar="FILE", help="LoRA or one of its kin")
    add(
        "--model",
        metavar="FILE",
        help="the model it is for; default: the family it seems made for, as published",
    )
    add("--keys", action="store_true", help="list the used tensors too, each with the weight it changes")
    add("--json", action="store_true", help="for programs; lists every tensor")
    return made
