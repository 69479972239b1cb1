"""What the nodes of image prompts do when they run; loaded then, since a start needs none of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...controlnet.ip_adapter import IPAdapter
from ...controlnet.ip_apply import Encode, image_adapters
from ...controlnet.ip_file import IPAdapterFile, read_ip_adapter
from ...controlnet.ip_settings import ImagePrompt
from ...controlnet.strength import Timeline
from ..control_config import config_of
from ..control_run import ImageAsk
from . import comfy
from .control_host import compute_dtype
from .control_networks import Network, encoder_network, image_adapter_network
from .control_patch import controlled
from .ip_vision import by_file, by_host, missing

_NOWHERE = Timeline([1.0, 0.0])


@dataclass(frozen=True)
class LoadedAdapter:
    """A file, and the image encoder chosen with it."""

    file: IPAdapterFile
    network: Network[IPAdapter]
    encoder: Encode | None = None

    def __deepcopy__(self, memo: object) -> LoadedAdapter:
        return self

    def encode(self, vision: Any) -> Encode:
        """The encoder that is connected, else the one that was chosen, else one that says what is missing."""
        if vision is not None:
            return by_host(vision)
        return self.encoder or missing(*self.file.encoder, self.file.source)


def load(path: Path, version: int | None, encoder: Path | None) -> LoadedAdapter:
    """An IP-Adapter's file. FileError for one that is none."""
    found = read_ip_adapter(path, version)
    return LoadedAdapter(found, image_adapter_network(found), encoder and by_file(encoder_network(encoder)))


def apply(model: Any, adapter: LoadedAdapter, prompt: ImagePrompt, vision: Any, lora_strength: float) -> Any:
    """A MODEL under an image prompt, whose pictures are encoded here."""
    dtype = compute_dtype(model.model)
    weights = adapter.network.loaded(dtype)
    config = config_of(model.model.diffusion_model)
    adapters = image_adapters(weights, config, _NOWHERE, prompt, adapter.encode(vision))
    made = controlled(model, ImageAsk(adapters), adapter.network.at(dtype)[1])
    _add_lora(made, weights, lora_strength)
    return made


def _add_lora(model: Any, weights: IPAdapter, strength: float) -> None:
    """The change of the model's weights that a FaceID was trained with, as ComfyUI's own LoRA."""
    if not weights.file.loras or not strength:
        return
    config = config_of(model.model.diffusion_model)
    tensors: dict[str, Any] = {}
    for patch in weights.weight_patches(config):
        stem, delta = f"diffusion_model.{patch.key.removesuffix('.weight')}", patch.delta
        tensors |= {f"{stem}.lora_down.weight": delta.down, f"{stem}.lora_up.weight": delta.up}  # type: ignore[attr-defined]
    keys = comfy("lora").model_lora_keys_unet(model.model, {})
    model.add_patches(comfy("lora").load_lora(tensors, keys), strength)
