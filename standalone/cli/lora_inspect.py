"""`sigmagraft lora inspect FILE`: what an adapter is, which of its tensors are used, how much each block changes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import OptionError
from .. import output
from .inspect_file import clean
from .parser import Parser
from .table import dump, show

if TYPE_CHECKING:
    from ...loras import LoadReport
    from ...loras.measure import BlockNorm
    from ..lora_targets import Base

FACTS = {"family": "families", "rank": "ranks", "alpha": "alphas"}
HEAD = ["block", "changes", "norm", "of the weight"]


def run(argv: Sequence[str]) -> int:
    """Print the report, or JSON; with --plot draw the norms too."""
    args = _parser().parse(argv, words="file")
    if not getattr(args, "file", ""):
        raise OptionError("no file", expected="the adapter file to inspect")
    plot = _plot_path(args)
    from ...loras import read_lora  # imports torch
    from ...loras.bind import examine
    from ...loras.measure import block_norms
    from ..lora_targets import base_of

    file = read_lora(Path(args.file))
    base = base_of(file, getattr(args, "model", None))
    bound = examine(file, base.targets)
    norms = block_norms(bound, base.targets.shapes, base.weight)
    if plot is not None:
        _plot(plot, bound.report, base, norms)
    if hasattr(args, "json"):
        blocks = {name: vars(norm) | {"relative": norm.relative} for name, norm in norms.items()}
        dump(bound.report.as_dict() | {"model": _model(base), "blocks": blocks})
        return 0
    lines = [*bound.report.lines(hasattr(args, "keys")), f"{'model':<11}{_model(base)}"]
    print("\n".join(clean(line) for line in [*lines, *_table(norms)]))
    return 0


def _plot_path(args: argparse.Namespace) -> Path | None:
    """Where to draw, which can be written to. OptionError for a name that is no PNG's."""
    if not hasattr(args, "plot"):
        return None
    path = Path(args.plot).expanduser()
    if path.suffix.lower() != ".png":
        raise OptionError(f"{args.plot!r}", "--plot", "a name that ends in .png")
    output.check_folder(path.parent)
    return path


def _plot(path: Path, report: LoadReport, base: Base, norms: Mapping[str, BlockNorm]) -> None:
    from ..lora_chart import picture

    if not norms:
        raise OptionError("no block to draw: nothing of it fits this model", "--plot")
    told = report.as_dict()
    facts = [f"{name} {', '.join(told[key])}" for name, key in FACTS.items() if told[key]]
    facts.append(f"on {_model(base)}")
    output.replace(picture(report.file.path.name, "; ".join(facts), norms), path)


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
    add("--plot", metavar="FILE.png", help="draw the norm of the change in each block")
    add("--json", action="store_true", help="for programs; lists every tensor")
    return made
