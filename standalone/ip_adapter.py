"""The IP-Adapters of a pipeline: opened once, pictures encoded once, put into a run as its adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import nn

from ..controlnet.ip_adapter import IPAdapter
from ..controlnet.ip_apply import Encode, ImageAdapter, image_adapters
from ..controlnet.ip_features import Features
from ..controlnet.strength import Timeline
from .control_passes import in_pass, prepared
from .hub import Hub
from .ip_adapter_lora import face_loras
from .ip_adapter_source import find_encoder, locate_ip_adapter
from .ip_adapter_text import ImageRequest

if TYPE_CHECKING:
    from ..controlnet.clip_vision import ImageEncoder
    from ..loras import Bound, Strength
    from .lora_stack import Loras
    from .model import Model
    from .request import Request

KEPT = 64  # pictures' features; those of a plus adapter take 1.3 MB each


@dataclass
class Loaded:
    """An adapter put on the pipeline by `load_ip_adapter`, and how strongly it acts."""

    weights: IPAdapter
    encoder: str | Path | None
    scale: float | dict[str | int, float] = 1.0


@dataclass
class IPAdapters:
    """Of one model; nothing of them is in the model itself."""

    model: Model
    loaded: list[Loaded] = field(default_factory=list)
    _opened: dict[tuple[Path, float, int | None], IPAdapter] = field(default_factory=dict)
    _features: dict[tuple[object, ...], Features] = field(default_factory=dict)

    def follow(self, model: Model) -> None:
        """The same networks elsewhere: what is open comes to where its weights are."""
        self.model = model
        for weights in [*self._opened.values(), *(loaded.weights for loaded in self.loaded)]:
            for part in (weights.projection, weights.layers):
                part.to(model.home)

    def for_run(self, request: Request, sigmas: Sequence[float]) -> list[ImageAdapter]:
        """What a request's image prompts add to its evaluations. OptionError, FileError, MissingPartError."""
        wanted: list[ImageRequest] = request.ip_adapter or []
        self._forget([self.open(one.model, one.version) for one in wanted])
        adapters: list[ImageAdapter] = []
        for one in prepared(wanted, request):
            made = self._acting(one, self.open(one.model, one.version), Timeline(sigmas))
            adapters += made if in_pass(one, request) else []
        return adapters

    def loras(self, request: Request, loras: Loras) -> list[tuple[Bound, Strength]]:
        """What the FaceID adapters among a request's change in the model's weights."""
        wanted = [one for one in request.ip_adapter or [] if in_pass(one, request)]
        opened = [self.open(one.model, one.version) for one in wanted]
        return face_loras(wanted, opened, self.model.unet.config, lambda: loras.targets)

    def open(
        self, source: str | Path | IPAdapter, version: int | None = None, hub: Hub | None = None
    ) -> IPAdapter:
        """The weights of a file, folder or hub id, beside the model's; opened once as long as runs ask for it."""
        if isinstance(source, IPAdapter):
            return source
        path = locate_ip_adapter(source, hub=hub)
        key = (path, path.stat().st_mtime, version)
        if key not in self._opened:
            self._opened[key] = IPAdapter.load(path, self.model.home, self.model.dtype, version)
        return self._opened[key]

    def _forget(self, used: Sequence[IPAdapter]) -> None:
        """Adapters that neither this run nor the pipeline has asked for."""
        wanted = [*used, *(loaded.weights for loaded in self.loaded)]
        self._opened = {key: one for key, one in self._opened.items() if one in wanted}

    def _acting(self, one: ImageRequest, weights: IPAdapter, timeline: Timeline) -> list[ImageAdapter]:
        config = self.model.unet.config
        encoders: list[ImageEncoder] = []  # let go when all pictures are encoded
        self._lend("ip_adapter", weights.projection)
        return image_adapters(weights, config, timeline, one.prompt, self._encode(one, weights, encoders))

    def _lend(self, name: str, network: nn.Module) -> None:
        """Where the model's networks come to the device as they run, this one does."""
        if self.model.offload is not None:
            self.model.offload.guest(name, network)

    def _encode(self, one: ImageRequest, weights: IPAdapter, encoders: list[ImageEncoder]) -> Encode:
        """Pictures -> features, remembered by the pictures' bytes."""

        def encode(images: Sequence[Image.Image], wanted: Sequence[str], crop: str) -> Features:
            place = one.encoder or weights.file.source
            key = (str(place), tuple(wanted), crop, *map(_digest, images))
            if key not in self._features:
                if not encoders:
                    model = self.model
                    found = find_encoder(weights.file, one.encoder, Hub(), model.home, model.dtype)
                    self._lend("image_encoder", found.network)
                    encoders.append(found)
                features = encoders[0].encode(images, wanted, crop)
                while len(self._features) >= KEPT:
                    self._features.pop(next(iter(self._features)))
                self._features[key] = features
            return self._features[key]

        return encode


def _digest(image: Image.Image) -> str:
    return f"{image.size}{image.mode}{hashlib.sha1(image.tobytes()).hexdigest()}"


def alone(given: Sequence[ImageRequest] | None, index: int) -> list[ImageRequest] | None:
    """A request's image prompts for picture `index` of its batch by itself."""
    if given is None:
        return None
    return [replace(one, prompt=one.prompt.alone(index)) for one in given]
