"""The model an adapter file is looked at with: a checkpoint's own weights, or the published sizes of its family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..animate.network import ModuleSizes, Motion, MotionConfig, places
from ..core.entry import Entry, Pages
from ..core.family import identify
from ..core.parts import shapes
from ..core.unet_config import UNetConfig
from ..loras import LoraFile, Targets
from ..loras.bind import examine
from ..loras.guess import guess_base
from ..loras.targets import NETWORKS
from .source import Source, open_source
from .text import TextConfig, TextEncoder
from .unet import UNet

_CLIP_L = TextConfig()
_OPEN_H = TextConfig(width=1024, layers=24, heads=16, intermediate=4096, act="gelu", projection=1024)
_BIG_G = TextConfig(width=1280, layers=32, heads=20, intermediate=5120, act="gelu", projection=1280)
_XL = UNetConfig(
    channel_mult=(1, 2, 4),
    num_res_blocks=(2, 2, 2),
    transformer_depth=(0, 2, 10),
    transformer_depth_middle=10,
    context_dim=2048,
    adm_in_channels=2816,
    use_linear=True,
)
_REFINER = UNetConfig(
    model_channels=384,
    transformer_depth=(0, 4, 4, 0),
    transformer_depth_middle=4,
    context_dim=1280,
    adm_in_channels=2560,
    use_linear=True,
)
_MOTION = MotionConfig({path: ModuleSizes(width, 32) for path, (_, width) in places(UNetConfig()).items()})
PUBLISHED: dict[str, tuple[UNetConfig, tuple[TextConfig, ...]]] = {
    "Stable Diffusion 1.x": (UNetConfig(), (_CLIP_L,)),
    "Stable Diffusion 2.x": (UNetConfig(context_dim=1024, use_linear=True), (_OPEN_H,)),
    "Stable Diffusion XL": (_XL, (_CLIP_L, _BIG_G)),
    "the Stable Diffusion XL refiner": (_REFINER, (_BIG_G,)),
}
"""What `guess_base` answers -> the sizes of that family's networks, as published."""


@dataclass(frozen=True)
class Base:
    """A model's weights by name, and their values where a checkpoint was named; ``guessed`` where none was."""

    targets: Targets
    entries: Mapping[str, Entry] = field(default_factory=dict)
    guessed: bool = True

    def weight(self, key: str) -> Tensor | None:
        """The weight of a patch key in fp32; None without a checkpoint."""
        return self.stored(key).float() if key in self.entries else None

    def stored(self, key: str) -> Tensor:
        """The weight of a patch key as the checkpoint has it, mapped; in fp32 where it is stored with a scale."""
        entry = self.entries[key]
        value = Pages().tensor(entry)
        return value if entry.scale is None else scaled(value, Pages().tensor(entry.scale))


def base_of(file: LoraFile, model: str | None = None) -> Base:
    """The model named, else the family the file was made for; where nothing tells, the one that most of it fits."""
    if model is not None:
        return named(model)
    label = guess_base(file)
    if label in PUBLISHED:
        return Base(published(label))
    return Base(max((published(name) for name in PUBLISHED), key=lambda targets: _fitting(file, targets)))


def scaled(value: Tensor, scale: Tensor) -> Tensor:
    """A weight stored as fp8 with a scale, or one for each row: their product in fp32."""
    return value.float() * scale.float().reshape(scale.shape + (1,) * (value.ndim - scale.ndim))


@lru_cache
def published(label: str) -> Targets:
    """The targets of a family; its networks are made without any memory for weights."""
    unet, texts = PUBLISHED[label]
    with torch.device("meta"):
        networks = UNet(unet), [TextEncoder(config) for config in texts]
        motion = Motion(_MOTION) if unet == UNetConfig() else None
    found = None if motion is None else _shapes(motion)
    return Targets.of(_shapes(networks[0]), [_shapes(text) for text in networks[1]], label, found)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.named_parameters()}


def _fitting(file: LoraFile, targets: Targets) -> int:
    return len(examine(file, targets).report.used)


def named(model: str) -> Base:
    """A checkpoint: a file, a folder or a hub id. FileError where it is none."""
    return base_of_source(open_source(model))


def base_of_source(source: Source) -> Base:
    """The weights of a model that was opened."""
    parts = source.parts
    unet = shapes(parts.unet)
    label = identify(unet).family.label
    targets = Targets.of(unet, [shapes(text) for text in parts.texts], label)
    networks = zip(NETWORKS, (parts.unet, *parts.texts), strict=False)
    entries = {f"{network}.{name}": entry for network, part in networks for name, entry in part.items()}
    return Base(targets, entries, guessed=False)
