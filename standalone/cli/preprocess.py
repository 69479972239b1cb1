"""`sigmagraft preprocess NAME IN OUT`: the hint of a picture; without a name the preprocessors there are."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import FileError, OptionError
from .parser import Parser, assignment, size
from .table import dump, option_json, option_lines, show

if TYPE_CHECKING:
    from ...controlnet.preprocess import Preprocessor


def run(argv: Sequence[str]) -> int:
    """Make a hint, or print what can be made."""
    parser = Parser("preprocess", "The hint of a picture, as --control NAME:... makes it.")
    parser.add_argument(
        "words", nargs="*", metavar="NAME IN OUT", help="a preprocessor and files; alone: what it does"
    )
    parser.add_argument(
        "--option", type=assignment, action="append", metavar="K=V", help="such as low=50; repeat"
    )
    parser.add_argument("--size", type=size, metavar="WxH", help="bring the picture to this size first")
    parser.add_argument("--resize", metavar="NAME", help="to --size by: crop (default), stretch, fill")
    parser.add_argument("--json", action="store_true", help="for programs")
    args, words = _words(parser, argv)
    from ...controlnet.preprocess import PREPROCESSORS

    if len(words) == 3:
        return _make(PREPROCESSORS[words[0]], words[1], words[2], args)
    if len(words) == 2:
        raise OptionError(f"preprocess {' '.join(words)}", expected="NAME IN OUT")
    _tell([PREPROCESSORS[words[0]]] if words else list(PREPROCESSORS), hasattr(args, "json"))
    return 0


def _words(parser: Parser, argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """File names may hold blanks, so the words are not joined."""
    given, rest = parser.parse_known_args(list(argv))
    words = [*getattr(given, "words", []), *rest]
    if bad := [word for word in words if word.startswith("-")] or words[3:]:
        raise OptionError(f"unexpected {bad[0]!r}", expected="NAME IN OUT and options")
    return given, words


def _make(spec: Preprocessor, source: str, target: str, args: Namespace) -> int:
    from ...controlnet.resize import fit_image
    from ..control_text import open_picture

    image = open_picture(source)
    if hasattr(args, "size"):
        image = fit_image(image, args.size, getattr(args, "resize", "crop"))
    made = spec(image, dict(getattr(args, "option", [])))
    try:
        made.save(target)
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot be written: {error}", Path(target), "a picture's name, such as out.png"
        ) from None
    print(target)
    return 0


def _tell(specs: Sequence[Preprocessor], as_json: bool) -> None:
    if as_json:
        dump([_as_json(spec) for spec in specs])
        return
    print(show([("name", "label", "also called"), *((s.name, s.label, ", ".join(s.aliases)) for s in specs)]))
    if len(specs) == 1:
        print("\n" + textwrap.fill(" ".join(specs[0].doc.split()), 110))
    lines = [line for spec in specs for line in option_lines(spec.name, spec.options)]
    lines += [f"  {spec.name}: {name}: {told}" for spec in specs for name, told in (spec.texts or {}).items()]
    if lines:
        print("\noptions:", *lines, sep="\n")


def _as_json(spec: Preprocessor) -> dict[str, Any]:
    told = {name: getattr(spec, name) for name in ("name", "label", "doc")} | {
        "texts": dict(spec.texts or {})
    }
    return told | {"aliases": list(spec.aliases), "options": [option_json(option) for option in spec.options]}
