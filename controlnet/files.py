"""What a control file is and its tensors under our networks' names; every tensor is used or named with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.checkpoint import Checkpoint, open_weights
from ..core.entry import Entry
from ..core.errors import FileError
from ..core.kinds import adapter_kind, other_kind
from .layouts import control_names, t2i_names
from .lllite import PREFIX

Entries = Mapping[str, Entry]
WRAPPERS = ("control_model.", "controlnet.", "adapter.", "module.", "state_dict.")
IGNORED = [
    (r"lora_controlnet", "the mark of a Control-LoRA"),
    (r"difference", "the mark of differences from the UNet"),
    (r".*__.*", "a note of the program that wrote the file"),
    (r"animatediff_config.*|global_step|epoch", "settings of the training"),
    (
        r"(model\.diffusion_model|first_stage_model|cond_stage_model|model_ema)\..*",
        "the base model beside it",
    ),
    (r"(alphas|betas|sqrt_|log_one|posterior_|lvlb_|logvar).*", "noise schedule"),
    (r"position_ids|(.*\.)?position_ids", "a constant"),
]
DIFFUSERS = "diffusion_pytorch_model"
KINDS = {
    "control-lora": "Control-LoRA",
    "lllite": "ControlNet-LLLite",
    "sparsectrl": "SparseCtrl",
    "controlnet-union": "ControlNet-Union",
    "controlnet": "ControlNet",
    "t2i-style": "T2I style adapter",
    "t2i-adapter": "T2I-Adapter",
}


@dataclass(frozen=True)
class ControlFile:
    """`kind` is a key of KINDS; `ignored` gives a reason for each tensor that is not needed.

    `said` is the config.json of a folder in diffusers' layout: heads leave no trace in shapes.
    """

    kind: str
    source: Path
    tensors: dict[str, Entry]
    ignored: dict[str, str] = field(default_factory=dict)
    difference: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: entry.shape for name, entry in self.tensors.items()}

    @property
    def label(self) -> str:
        """What a person calls this kind."""
        return KINDS[self.kind]


def open_control(file: str | Path | Checkpoint) -> ControlFile:
    """Open a control file by its content. FileError where it is none, or holds tensors nobody knows."""
    checkpoint = file if isinstance(file, Checkpoint) else open_weights(file)
    kind = adapter_kind(checkpoint.shapes)
    if kind is None or kind.name not in KINDS:
        found = kind or other_kind(checkpoint.shapes)
        what = f"this is {found.label}" if found else "no control file"
        raise FileError(what, checkpoint.source, "a ControlNet, T2I-Adapter or one of their kin")
    entries = _unwrapped(checkpoint.entries)
    ignored = {name: reason for name in entries if (reason := _reason(name))}
    wanted = {name: entry for name, entry in entries.items() if name not in ignored}
    tensors, unknown = _READERS.get(kind.name, control_names)(wanted)
    if unknown:
        what = f"{len(unknown)} tensors nobody knows, such as {unknown[0]!r}"
        raise FileError(what, checkpoint.source, KINDS[kind.name], "this variant is not supported")
    said = _said(Path(checkpoint.source))
    return ControlFile(kind.name, checkpoint.source, tensors, ignored, "difference" in entries, said)


def _said(file: Path) -> dict[str, Any]:
    """config.json beside a file of diffusers' layout. FileError where it cannot be read."""
    config = file.with_name("config.json")
    if not file.name.startswith(DIFFUSERS) or not config.is_file():
        return {}
    try:
        return dict(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"unreadable: {error}", config, "what diffusers wrote") from None


def _unwrapped(entries: Entries) -> dict[str, Entry]:
    """Without the prefixes that trainers and wrapping dictionaries leave."""
    out = dict(entries)
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in out):
            out = {name.removeprefix(prefix): entry for name, entry in out.items()}
    return out


def _reason(name: str) -> str | None:
    return next((reason for pattern, reason in IGNORED if re.fullmatch(pattern, name)), None)


def _lllite(tensors: Entries) -> tuple[dict[str, Entry], list[str]]:
    known = {name.removeprefix(PREFIX): entry for name, entry in tensors.items() if name.startswith(PREFIX)}
    return known, [name for name in tensors if not name.startswith(PREFIX)]


def _style(tensors: Entries) -> tuple[dict[str, Entry], list[str]]:
    return dict(tensors), []  # the network itself names what it lacks or does not know


_READERS: dict[str, Callable[[Entries], tuple[dict[str, Entry], list[str]]]] = {
    "lllite": _lllite,
    "t2i-adapter": t2i_names,
    "t2i-style": _style,
}
