"""What the tools for adapters have in common: their options, what they write and where."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import OptionError
from .. import output
from .parser import Parser, choice

if TYPE_CHECKING:
    from ...loras import LoadReport

NAMINGS = ("kohya", "diffusers", "peft", "onetrainer")
SUFFIX = ".safetensors"


def add_writing(parser: Parser, model: bool = True) -> None:
    """--out, --naming and, where one has to be named, --model."""
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help="what to write: FILE.safetensors, or a folder for peft")
    add("--naming", type=choice(NAMINGS), metavar="NAME", help=f"{', '.join(NAMINGS)}")
    if not model:
        return
    add(
        "--model",
        metavar="FILE",
        help="the model it is for; default: the family it seems made for, as published",
    )


def wanted(args: argparse.Namespace, name: str, expected: str) -> Any:
    """An option that must be given. OptionError where it is not."""
    if not getattr(args, name, ""):
        raise OptionError(f"no {name}", expected=expected)
    return getattr(args, name)


def out_path(args: argparse.Namespace, naming: str) -> Path:
    """Where to write, which can be written to. OptionError for a name that does not say what it will be."""
    out = Path(wanted(args, "out", "-o and a file to write")).expanduser()
    if naming == "peft" and out.suffix:
        raise OptionError(f"{str(out)!r}", "-o", "a folder, which is what PEFT loads")
    if naming != "peft" and out.suffix != SUFFIX:
        raise OptionError(f"{str(out)!r}", "-o", f"a name that ends in {SUFFIX}")
    output.check_folder(out.parent)
    return out


def tell(report: LoadReport) -> None:
    """What of a file is left out, on the error stream."""
    for text in report.warnings():
        print(f"sigmagraft: {text}; left out", file=sys.stderr)
