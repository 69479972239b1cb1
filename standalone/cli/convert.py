"""`sigmagraft convert MODEL --out PLACE`: a model as one file or as a folder, in another dtype."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import OptionError
from .options import DTYPES
from .parser import Parser, choice


def run(argv: Sequence[str]) -> int:
    """Write it and print where."""
    given = vars(_parser().parse(argv, words="model"))
    for name, expected in (
        ("model", "the model to convert"),
        ("out", "--out, a folder or a .safetensors file"),
    ):
        if name not in given:
            raise OptionError(f"no {name}", expected=expected)
    from ..convert import convert
    from ..hub import Hub
    from ..memory import DTYPES as KINDS

    hub = Hub(given.get("revision"), given.get("token"), given.get("offline"))
    dtype = KINDS[given["dtype"]] if "dtype" in given else None
    names = ("variant", "as_variant", "subfolder")
    more = {name: given.get(name) for name in names}
    print(convert(given["model"], given["out"], dtype, hub=hub, **more))
    return 0


def _parser() -> Parser:
    made = Parser("convert", "A model as one file or as a folder in diffusers' layout, tensor by tensor.")
    add = made.add_argument
    add("model", nargs="*", metavar="MODEL", help="a checkpoint file, diffusers folder or hub id")
    add("-o", "--out", metavar="PLACE", help="one file where it ends in .safetensors, else a folder")
    add("--dtype", type=choice(DTYPES), metavar="NAME", help="fp32, fp16, bf16; default: as it is")
    add("--variant", metavar="NAME", help="ema or non_ema of a file; non_ema, fp16 ... of a folder")
    add("--as-variant", metavar="NAME", help="goes into the names of a folder's weights, such as fp16")
    add("--subfolder", metavar="NAME", help="where in the folder or repository the model is")
    add("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    add("--token", metavar="TOKEN", help="for the hub")
    add("--offline", action="store_true", help="never ask the hub; use what is cached")
    return made
