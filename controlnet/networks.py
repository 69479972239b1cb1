"""A control file's network, sizes from its shapes; weights mapped or streamed from the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.entry import Pages
from ..core.errors import FileError
from ..core.fill import Filler, skeleton
from ..core.shapes import Shapes, count
from ..core.unet_config import UNetConfig, with_heads
from .control_lora import added, merged, whole_shapes
from .files import ControlFile
from .hint import hint_widths
from .lllite import LLLite
from .network import ControlNet
from .sparse import SparseControlNet
from .style import StyleAdapter
from .t2i import T2IAdapter, T2IConfig
from .union import UnionControlNet


def make_network(kind: str, shapes: Shapes, said: Mapping[str, Any] | None = None) -> nn.Module:
    """A network of a file's sizes, without its weights; `said` is its config.json."""
    shapes = whole_shapes(shapes) if kind == "control-lora" else shapes
    if kind in _ENCODERS:
        return _ENCODERS[kind](shapes, with_heads(UNetConfig.of_encoder(shapes), said or {}))
    return _MAKERS[kind](shapes)


def build(file: ControlFile, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network of a file that stands on its own. FileError where names or shapes differ, or a weight is NaN."""
    with Filler(dtype, device) as filler:
        return filler.build(lambda: make_network(file.kind, file.shapes, file.said), file.tensors, file.label)


def needs_base(file: ControlFile) -> bool:
    """Whether the weights are differences from those of the UNet in use."""
    return file.kind == "control-lora" or file.difference


def build_on(
    file: ControlFile, base: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """The same of a file that holds differences, over the UNet's weights as they are now (LoRAs included)."""
    pages = Pages()
    tensors = {name: pages.tensor(entry) for name, entry in file.tensors.items()}
    weights = (merged if file.kind == "control-lora" else added)(tensors, base)
    with skeleton():
        network = make_network(file.kind, file.shapes, file.said)
    wanted = network.state_dict()
    if lost := [name for name in wanted if name not in weights]:
        raise FileError(f"the {file.label} lacks {lost[0]!r}", file.source, todo="the file is incomplete")
    network.load_state_dict(
        {name: value.to(device, dtype) for name, value in weights.items() if name in wanted}, assign=True
    )
    return network.requires_grad_(False).eval()


def _control(shapes: Shapes, sizes: UNetConfig) -> ControlNet:
    return ControlNet(sizes, hint_widths(shapes))


def _union(shapes: Shapes, sizes: UNetConfig) -> UnionControlNet:
    layers = count(shapes, "transformer_layes.{}.ln_1.weight")
    types = shapes["task_embedding"][0]
    numbers = shapes["control_add_embedding.linear_1.weight"][1] // types
    return UnionControlNet(sizes, hint_widths(shapes), types, layers, numbers)


def _sparse(shapes: Shapes, sizes: UNetConfig) -> SparseControlNet:
    pattern = re.compile(r"motion_modules\.(\d+)\.transformer_blocks\.0\.pe")
    lengths = {int(m[1]): shape[1] for name, shape in shapes.items() if (m := pattern.fullmatch(name))}
    return SparseControlNet(sizes, hint_widths(shapes), lengths)


_ENCODERS: dict[str, Callable[[Shapes, UNetConfig], nn.Module]] = {
    "controlnet": _control,
    "control-lora": _control,
    "controlnet-union": _union,
    "sparsectrl": _sparse,
}
_MAKERS: dict[str, Callable[[Shapes], nn.Module]] = {
    "t2i-adapter": lambda shapes: T2IAdapter(T2IConfig.from_shapes(shapes)),
    "t2i-style": StyleAdapter.from_shapes,
    "lllite": LLLite,
}
