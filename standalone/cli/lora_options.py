"""--lora, --lora-dir and --lora-force: the adapters of a run, and what pictures keep of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .parser import Parser

if TYPE_CHECKING:
    from ..pipeline import Pipeline

Settings = dict[str, Any]
LISTS = ("loras", "lora_dir")


def add_loras(parser: Parser) -> None:
    """Adapters of weights: LoRA and its kin."""
    add = parser.add_argument_group("adapters (LoRA and its kin)").add_argument
    add(
        "--lora",
        dest="loras",
        action="append",
        metavar="FILE[:WEIGHT...]",
        help="an adapter, such as ink.safetensors:0.8:te=0.5:blocks=OUTALL:sigma=0@14,1@2; may be repeated; "
        "in prompts <lora:NAME:WEIGHT...>",
    )
    add(
        "--lora-dir",
        action="append",
        metavar="PATH",
        help="a folder whose adapters prompts and --lora may name; may be repeated",
    )
    add("--lora-force", action="store_true", help="of an adapter made for another model, apply what fits")


def check(settings: Settings) -> None:
    """Before any model loads: OptionError for an expression that cannot be read, FileError for a file not there."""
    from ..hub import is_hub_id
    from ..lora_prompt import tags, wanted
    from ..lora_source import Folders, locate_lora

    folders = Folders(settings.get("lora_dir") or ())
    for one in wanted([*(settings.get("loras") or ()), *tags(settings.get("prompt", ""))]):
        if not is_hub_id(one.source):
            locate_lora(one.source, folders, dict(one.options))


def use(pipe: Pipeline, settings: Settings, tell: Callable[[str], None]) -> None:
    """Lets the pipeline's adapters tell of unused tensors, and be forced where asked for."""
    pipe.loras.warn = tell
    pipe.loras.force = settings.get("lora_force", False)


def changed(settings: Settings, result: Mapping[str, Any]) -> list[str]:
    """A sentence for each adapter that is not the file a picture was made with."""
    before, now = settings.get("lora_hashes") or {}, result.get("lora_hashes") or {}
    return [
        f"the picture was made with {name} of hash {before[name]}, this one's is {now[name]}: it will differ"
        for name in before
        if name in now and before[name] != now[name]
    ]


def portable(settings: Settings, shorten: Callable[[str], str]) -> None:
    """Paths in a picture's settings in a form that works from any folder."""
    if "lora_dir" in settings:
        settings["lora_dir"] = [shorten(path) for path in settings["lora_dir"]]
    if settings.get("loras"):
        settings["loras"] = [_expression(text, shorten) for text in settings["loras"]]


def _expression(text: str, shorten: Callable[[str], str]) -> str:
    name, colon, rest = text.partition(":")
    return shorten(name) + colon + rest
