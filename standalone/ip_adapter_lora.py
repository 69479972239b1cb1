"""FaceID's own low-rank change of the model, as one of a run's adapters of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..controlnet.ip_adapter import IPAdapter
from ..controlnet.ip_places import modules
from ..core.entry import Pages
from ..core.errors import OptionError
from ..loras import Bound, Strength, bind
from ..loras.lora_file import LoraFile, Part
from ..loras.lowrank import LowRank
from .ip_adapter_text import ImageRequest

if TYPE_CHECKING:
    from ..core.unet_config import UNetConfig
    from ..loras import Targets


def face_loras(
    requests: Sequence[ImageRequest],
    opened: Sequence[IPAdapter],
    config: UNetConfig,
    targets: Callable[[], Targets],
) -> list[tuple[Bound, Strength]]:
    """What the FaceID adapters among these change in the model's weights, each file once."""
    found: dict[object, tuple[Bound, Strength]] = {}
    for request, weights in zip(requests, opened, strict=True):
        if not weights.file.loras and request.lora != 1.0:
            what = f"lora={request.lora:g} of {weights.file.variant.label}, which has no change of weights"
            raise OptionError(what, weights.file.source, todo="leave lora out")
        if weights.file.loras and request.lora:
            bound = bind(_lora_file(weights, config), targets())
            found.setdefault(weights.file.source, (bound, Strength(request.lora)))
    return list(found.values())


def _lora_file(weights: IPAdapter, config: UNetConfig) -> LoraFile:
    names, pages, parts = modules(config), Pages(), {}
    for number, name, down, up in weights.file.lora():
        stem = f"diffusion_model.{names[number]}.to_{'out.0' if name == 'out' else name}"
        keys = [f"ip_adapter.{number}.to_{name}_lora.{side}.weight" for side in ("down", "up")]
        parts[stem] = Part(stem, [("weight", LowRank(pages.tensor(up), pages.tensor(down)))], keys)
    return LoraFile(weights.file.source, parts)
