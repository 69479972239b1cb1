"""`sigmagraft inspect FILE`: what a weights file, a diffusers folder or a picture is; nothing in it is run
or loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import OptionError
from .. import metadata, naming, output
from .parser import Parser
from .table import dump

_LONGEST = 200  # characters of a metadata value; some hold a whole training log


def run(argv: Sequence[str]) -> int:
    """Print what the file is, or JSON."""
    parser = Parser("inspect", "What a weights file, a diffusers folder or a picture is.")
    parser.add_argument(
        "file", nargs="*", metavar="FILE", help="the file or folder; `bundled` is the bundled model"
    )
    parser.add_argument(
        "--check", action="store_true", help="read every tensor and look for NaN and infinity"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse(argv, words="file")
    if not getattr(args, "file", ""):
        raise OptionError("no file", expected="the file or folder to inspect")
    path = Path(args.file).expanduser()
    found = (
        _picture(path)
        if path.suffix[1:].lower() in naming.FORMATS
        else _weights(args.file, hasattr(args, "check"))
    )
    if hasattr(args, "json"):
        dump(found)
    else:
        print("\n".join(clean(line) for line in lines(found)))
    return 0


def _weights(name: str, check: bool) -> dict[str, Any]:
    from ..describe import describe  # imports torch
    from ..source import BUNDLED

    return describe(BUNDLED if name == "bundled" else Path(name).expanduser(), check=check)


def _picture(path: Path) -> dict[str, Any]:
    from PIL import Image

    text = output.read_text(path)
    with Image.open(path) as image:
        size = f"{image.width}x{image.height} {image.format}"
    read = metadata.from_text(text)
    return {
        "path": str(path),
        "kind": "picture",
        "label": f"a picture with its settings, {size}",
        "settings": read.settings,
        "other": read.other,
        "text": text,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The description for a person: a headline, then a line for every fact."""
    yield f"{found['path']}: {found['label']}"
    for name, value in _facts(found):
        yield f"  {name:<12} {value}"


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in (found.get("settings", {}) | found.get("other", {})).items():
        yield name, str(value)
    if "tensors" in found:
        yield "container", f"{found['container']}, {found['tensors']:,} tensors, {_amount(found)}"
    for name in (
        "family",
        "task",
        "prediction",
        "zero_snr",
        "shift",
        "sigma_min",
        "sigma_max",
        "latent_channels",
    ):
        if found.get(name) not in (None, False):
            yield name, str(found[name])
    for name, part in found.get("parts", {}).items():
        yield name, f"{part['tensors']:,} tensors, {_amount(part)}"
    for name in ("missing", "not_finite"):
        if name in found and (found[name] or name == "not_finite"):
            yield name, _few(found[name]) or "none"
    for reason, count in found.get("ignored", {}).items():
        yield "ignored", f"{count:,} tensors: {reason}"
    if found.get("unknown"):
        yield "unknown", f"{len(found['unknown']):,} tensors: {_few(found['unknown'])}"
    for name in ("reasons", "notes"):
        for text in found.get(name, []):
            yield {"reasons": "because", "notes": "note"}[name], text
    for name, value in found.get("metadata", {}).items():
        yield "metadata", f"{name}: {value[:_LONGEST]}{'...' if len(value) > _LONGEST else ''}"


def _amount(count: Mapping[str, Any]) -> str:
    kinds = ", ".join(
        f"{name} {share / max(count['parameters'], 1):.0%}" for name, share in count["dtypes"].items()
    )
    only = next(iter(count["dtypes"]), "") if len(count["dtypes"]) == 1 else kinds
    return f"{count['parameters']:,} parameters in {only}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def clean(text: str) -> str:
    """Without control characters: a file's text must not steer the terminal it is shown on."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
