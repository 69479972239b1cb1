"""`sigmagraft lora TOOL`: the tools for adapter files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from ...core.errors import OptionError, nearest

# tool -> (module of this folder, one line of help); each module has `run(argv) -> int`
TOOLS = {
    "inspect": ("lora_inspect", "what an adapter file is, and which of its tensors are used"),
    "convert": ("lora_convert", "an adapter under kohya's, diffusers', PEFT's or OneTrainer's names"),
    "resize": ("lora_resize", "an adapter as a LoRA of another rank"),
    "merge": ("lora_merge", "several adapters as one LoRA"),
    "bake": ("lora_bake", "adapters put into a checkpoint for good"),
    "extract": ("lora_extract", "what one checkpoint has that another has not, as an adapter"),
}


def run(argv: Sequence[str]) -> int:
    """Run one tool; without one, or with --help, print what there is and leave."""
    words = [word for word in argv if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        raise SystemExit(0)
    if words[0] not in TOOLS:
        raise OptionError(f"unknown tool {words[0]!r}", "lora", todo=nearest(words[0], TOOLS))
    return import_module(f".{TOOLS[words[0]][0]}", __package__).run(words[1:])


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {text}" for name, (_, text) in TOOLS.items())
    return f"""usage: sigmagraft lora TOOL [options]

tools for adapters of weights (LoRA and its kin):
{rows}

`sigmagraft lora TOOL --help` tells a tool's options."""
