"""What a motion module file is, and its tensors under our network's names: AnimateDiff's layout and diffusers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.checkpoint import Checkpoint, open_weights
from ..core.entry import Entry
from ..core.errors import FileError
from ..core.fill import Filler
from ..core.keymap import Table, rename
from ..core.kinds import adapter_kind, other_kind
from ..core.shapes import Shapes, count
from ..core.temporal import HEADS, MODULE, parts_table
from .network import ModuleSizes, Motion, MotionConfig

UNSTORED = 64  # positions of a file that holds no table of them, as AnimateLCM's
WRAPPERS = ("module.", "unet.", "motion_adapter.")
# SD1's were trained on plainly linear betas, SDXL's on Stable Diffusion's with another end
LINEAR: dict[str, Any] = {"beta_schedule": "linear"}
BETAS = {"v1": LINEAR, "v2": LINEAR, "v3": LINEAR, "lcm": LINEAR, "sdxl": {"beta_end": 0.02}}
IGNORED = [
    (r".*\.attention_blocks\.[1-9]\.pos_encoder\.pe", "the same positions once more"),
    (r"animatediff_config.*|global_step|epoch", "settings of the training"),
    (r"(?!.*motion_modules)(?!conv_in).*", "no part of a motion module"),
]


@dataclass(frozen=True)
class MotionFile:
    """A file's tensors by our names, its sizes, and a reason for each tensor that is not needed."""

    source: Path
    tensors: dict[str, Entry]
    config: MotionConfig
    ignored: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def betas(self) -> dict[str, Any] | None:
        """The noise levels it was trained on, as `NoiseLevels.discrete` takes them; None: the model's own."""
        return None if self.metadata.get("betas") == "model" else BETAS[self.config.version]

    def build(self, device: torch.device, dtype: torch.dtype) -> Motion:
        """The network with the file's weights. FileError where names or shapes differ, or a weight is NaN."""
        with Filler(dtype, device) as filler:
            network = filler.build(lambda: Motion(self.config), self.tensors, "motion module")
        return network.to(device, dtype)


def open_motion(file: str | Path | Checkpoint, heads: int = HEADS) -> MotionFile:
    """Open a motion module by its content. FileError where it is none, or holds tensors nobody knows.

    `heads` of attention leave no trace in the shapes; every published module has 8.
    """
    checkpoint = file if isinstance(file, Checkpoint) else open_weights(file)
    kind = adapter_kind(checkpoint.shapes)
    if kind is None or kind.name != "motion-module":
        found = kind or other_kind(checkpoint.shapes)
        raise FileError(
            f"this is {found.label}" if found else "no motion module",
            checkpoint.source,
            "a motion module of AnimateDiff",
        )
    entries = _unwrapped(checkpoint.entries)
    ignored = {name: reason for name in entries if (reason := _reason(name))}
    wanted = {name: entry for name, entry in entries.items() if name not in ignored}
    tensors, unknown = rename(wanted, _table(wanted))
    if unknown:
        what = f"{len(unknown)} tensors nobody knows, such as {unknown[0]!r}"
        raise FileError(what, checkpoint.source, "a motion module", "this variant is not supported")
    shapes = {name: entry.shape for name, entry in tensors.items()}
    return MotionFile(checkpoint.source, tensors, sizes_of(shapes, heads), ignored, checkpoint.metadata)


def sizes_of(shapes: Shapes, heads: int = HEADS) -> MotionConfig:
    """The sizes in a motion module's shapes (our names). FileError where a module is incomplete."""
    paths = dict.fromkeys(match[1] for name in shapes if (match := MODULE.match(name)))
    stored = any(name.endswith(".pe") for name in shapes)
    return MotionConfig({path: _module(shapes, path) for path in paths}, heads, stored)


def _module(shapes: Shapes, path: str) -> ModuleSizes:
    norm = shapes.get(f"{path}.norm.weight")
    blocks = count(shapes, f"{path}.transformer_blocks.{{}}.norm1.weight")
    if norm is None or not blocks:
        raise FileError(f"the motion module {path} is incomplete", todo="download the file again")
    first = f"{path}.transformer_blocks.0"
    length = shapes.get(f"{first}.pe", (1, UNSTORED))[1]
    return ModuleSizes(norm[0], length, 2 if f"{first}.norm2.weight" in shapes else 1, blocks)


def _unwrapped(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    out = dict(entries)
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in out):
            out = {name.removeprefix(prefix): entry for name, entry in out.items()}
    return out


def _reason(name: str) -> str | None:
    return next((reason for pattern, reason in IGNORED if re.fullmatch(pattern, name)), None)


def _table(names: Mapping[str, Entry]) -> Table:
    """Every part of every module, in whichever of the two spellings."""
    blocks: dict[tuple[str, str], int] = {}
    for name in names:
        if (match := MODULE.match(name)) and (inner := re.match(r"transformer_blocks\.(\d+)\.", match[3])):
            key = (f"{match[1]}{match[2] or ''}", match[1])
            blocks[key] = max(blocks.get(key, 0), int(inner[1]) + 1)
    table: Table = {}
    for (left, right), many in blocks.items():
        table |= parts_table(left, right, many)
    return table


def diffusers_name(name: str) -> str:
    """Our name of a tensor -> a MotionAdapter's."""
    return f"{name.removesuffix('.pe')}.pos_embed.pe" if name.endswith(".pe") else name
