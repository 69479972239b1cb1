"""MotionAdapter: AnimateDiff's motion modules as users of diffusers load and save them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..animate.files import diffusers_name, open_motion
from ..animate.network import Motion, MotionConfig
from ..core.errors import FileError
from ..core.temporal import HEADS
from ..standalone.folder import pick_weights
from .component import Component, folder_config


class MotionAdapter(Component):
    """Motion modules v1, v2, v3, of SDXL or of AnimateLCM; they act inside an AnimateDiff pipeline."""

    folder = "motion_adapter"
    network: Motion

    @classmethod
    def load(cls, path: Path, variant: str | None, dtype: torch.dtype) -> MotionAdapter:
        if not path.is_dir():
            return cls.opened(path, {}, dtype)
        chosen = pick_weights([file.name for file in path.iterdir()], variant)
        if chosen is None:
            raise FileError("no weights", path, "motion modules")
        return cls.opened(path / chosen, folder_config(path), dtype)

    @classmethod
    def opened(cls, file: Path, said: Mapping[str, Any], dtype: torch.dtype) -> MotionAdapter:
        """One file, with what a folder's config says of it. FileError where it holds no motion modules."""
        heads = said.get("motion_num_attention_heads") or HEADS
        found = open_motion(file, heads if isinstance(heads, int) else heads[0])
        return cls(found.build(torch.device("cpu"), dtype), said or adapter_config(found.config))

    @classmethod
    def from_single_file(
        cls, pretrained_model_link_or_path: str | os.PathLike[str], torch_dtype: torch.dtype | None = None
    ) -> MotionAdapter:
        """From one file in the authors' layout or diffusers'. FileError where it holds no motion modules."""
        return cls.opened(Path(pretrained_model_link_or_path), {}, torch_dtype or torch.float32)

    def named_tensors(self) -> dict[str, Tensor]:
        # tables of positions, which files of AnimateLCM lack, are no part of its state, and diffusers expects them
        tensors = {**self.network.state_dict(), **dict(self.network.named_buffers())}
        return {diffusers_name(name): value for name, value in tensors.items()}


def adapter_config(c: MotionConfig) -> dict[str, Any]:
    """What a MotionAdapter's config.json says of these sizes."""
    first = next(iter(c.modules.values()))
    levels = len(c.widths)
    layers = sum(path.startswith("down_blocks") for path in c.modules) // levels
    return {
        "block_out_channels": c.widths,
        "conv_in_channels": None,
        "motion_layers_per_block": layers,
        "motion_max_seq_length": c.length,
        "motion_mid_block_layers_per_block": 1,
        "motion_norm_num_groups": 32,
        "motion_num_attention_heads": c.heads,
        "motion_transformer_layers_per_block": first.blocks,
        "motion_transformer_layers_per_mid_block": first.blocks,
        "use_motion_mid_block": c.middle,
    }
