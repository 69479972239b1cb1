"""An adapter file -> its parts, checked whole before anything changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..core.checkpoint import open_weights
from ..core.errors import FileError
from ..core.kinds import adapter_kind, foreign_kind, other_kind
from ..core.shapes import Shapes
from .formats import deltas_of
from .group import Group
from .lora_file import LoraFile, Part, Unused
from .peft_config import PeftConfig, find_config
from .spellings import split, why_unsupported

EMBEDDING = "bundle_emb."
_EXPECTED = "a LoRA or one of its kin"


def read_lora(path: str | Path) -> LoraFile:
    """Read an adapter file: .safetensors, or a pickle of weights alone.

    FileError for a file that is damaged, no adapter, holds NaN or infinity, has rank 0 or alpha 0, or whose tensors
    contradict each other. The file is free to be moved, replaced or deleted afterwards.
    """
    path = Path(path).expanduser()
    checkpoint = open_weights(path)
    _refuse_strangers(checkpoint.shapes, path)
    tensors = {
        key: tensor.clone() for key, tensor in checkpoint.tensors().items()
    }  # not the mapped file's pages
    _check_numbers(tensors, path)
    config = find_config(path, checkpoint.metadata)
    embeddings = _embeddings(tensors)
    groups, unknown = _grouped(tensors, path, config)
    parts = {stem: part for stem, group in groups.items() if (part := _part(group)).deltas}
    unknown += [_left(group, role) for group in groups.values() for role in group.left()]
    if not parts and not embeddings:
        some = ", ".join(key for key, _, _ in unknown[:3])
        raise FileError(f"no tensor of it is known, such as {some}", path, _EXPECTED)
    return LoraFile(path, parts, checkpoint.metadata, embeddings, tuple(unknown), checkpoint.notes)


def _refuse_strangers(shapes: Shapes, path: Path) -> None:
    """A ControlNet, a checkpoint or anything else that is no adapter of weights is named."""
    kind = adapter_kind(shapes)
    if kind is not None and kind.name in ("lora", "motion-lora"):
        return
    if kind is None and any(key.startswith(EMBEDDING) or _marks(key) for key in shapes):
        return
    known = kind or foreign_kind(shapes) or other_kind(shapes)
    whole = any(key.startswith(("model.diffusion_model.", "input_blocks.", "down_blocks.")) for key in shapes)
    label = known.label if known else "a model" if whole else None
    what = f"this is {label}" if label else f"unknown tensors, such as {next(iter(shapes))!r}"
    raise FileError(what, path, _EXPECTED)


def _marks(key: str) -> bool:
    """Whether a key's ending is one that only adapters have."""
    found = split(key)
    return found is not None and found.role not in ("weight", "bias", "scalar", "alpha")


def _check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    for key, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            value = tensor.float() if tensor.dtype.itemsize == 1 else tensor
            if not all(math.isfinite(extreme.item()) for extreme in value.aminmax()):
                raise FileError(
                    f"tensor {key!r} holds NaN or infinite values", path, todo="train or fetch it again"
                )


def _embeddings(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Textual inversions in the file, taken out of ``tensors``: `bundle_emb.NAME.WHAT`."""
    found: dict[str, dict[str, Tensor]] = {}
    for key in [key for key in tensors if key.startswith(EMBEDDING)]:
        name, _, what = key.removeprefix(EMBEDDING).partition(".")
        found.setdefault(name, {})[what] = tensors.pop(key)
    return found


def _grouped(
    tensors: Mapping[str, Tensor], path: Path, config: PeftConfig | None
) -> tuple[dict[str, Group], list[Unused]]:
    groups: dict[str, Group] = {}
    unknown: list[Unused] = []
    adapters: set[str] = set()
    for key, tensor in tensors.items():
        found = split(key)
        if found is None:
            unknown.append(
                Unused(key, why_unsupported(key) or "its ending is not that of an adapter's tensor")
            )
            continue
        if found.adapter:
            adapters.add(found.adapter)
        group = groups.setdefault(found.stem, Group(found.stem, {}, {}, path, config))
        if found.role in group.roles and len(adapters) < 2:
            raise FileError(f"{group.keys[found.role]} and {key} say the same", path, "one of them")
        group.roles[found.role], group.keys[found.role] = tensor, key
    if len(adapters) > 1:
        names = ", ".join(sorted(adapters))
        raise FileError(f"it holds {len(adapters)} adapters: {names}", path, "one", "save them one by one")
    for group in groups.values():
        if "on_input" in group.roles and "weight" in group.roles:
            group.rename("weight", "ia3")
        elif config is not None and "weight" in group.roles and config.saves_whole(group.stem):
            group.rename("weight", "set_weight")
        if config is not None and "bias" in group.roles:  # PEFT trains biases as they stand
            group.rename("bias", "set_bias")
    return groups, unknown


def _part(group: Group) -> Part:
    alpha = group.roles.get("alpha")
    if alpha is not None and alpha.numel() == 1:
        value = float(alpha.float())
    else:
        value = group.config.alpha_of(group.stem) if group.config else None
    deltas = deltas_of(group)
    return Part(group.stem, deltas, [group.keys[role] for role in group.roles if role in group.taken], value)


def _left(group: Group, role: str) -> Unused:
    there = ", ".join(sorted(set(group.roles) - {role})) or "nothing"
    if group.taken:
        return Unused(group.keys[role], f"it means nothing beside {', '.join(sorted(group.taken))}")
    return Unused(group.keys[role], f"the tensors that belong to it are missing (there is {there})")
