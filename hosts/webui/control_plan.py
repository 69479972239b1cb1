"""From units to what acts: files opened, pictures encoded, networks on the device for one walk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from ...animate.files import MotionFile
from ...animate.network import Motion
from ...controlnet.files import ControlFile
from ...controlnet.ip_adapter import IPAdapter
from ...controlnet.ip_apply import image_adapters
from ...controlnet.ip_features import load_features
from ...controlnet.ip_file import IPAdapterFile
from ...controlnet.ip_image import pixels
from ...controlnet.model import ControlModel, pooled
from ...controlnet.settings import REFERENCE
from ...controlnet.strength import Timeline
from ...core.errors import OptionError
from ..control_config import config_of
from ..control_run import Ask, ControlAsk, ImageAsk
from .control_files import ENCODERS, encoder_for, opened, path_of
from .control_model import device_of, dtype_of, unet_of
from .control_units import PASSES, Unit, control_of, prompt_of
from .walk import Walk
from .walk_pass import Part

Key = tuple[Path, int, torch.dtype]
File = ControlFile | IPAdapterFile | MotionFile
Made = ControlModel | IPAdapter | Motion
_NOWHERE = Timeline([1.0, 0.0])


class Shelf:
    """Networks on the CPU, kept as long as jobs ask for them."""

    def __init__(self) -> None:
        self._kept: dict[Key, Made] = {}
        self._used: set[Key] = set()

    def begin(self) -> None:
        """A job begins: what the one before did not ask for goes."""
        self._kept = {key: one for key, one in self._kept.items() if key in self._used}
        self._used = set()

    def made(self, file: File, dtype: torch.dtype) -> Made:
        """The network of a file."""
        key = (file.source, file.source.stat().st_mtime_ns, dtype)
        self._used.add(key)
        if key not in self._kept:
            self._kept[key] = _network(file, torch.device("cpu"), dtype)
        return self._kept[key]


def _network(file: File, device: torch.device, dtype: torch.dtype) -> Made:
    if isinstance(file, MotionFile):
        return file.build(device, dtype)
    return (
        IPAdapter.load(file, device, dtype)
        if isinstance(file, IPAdapterFile)
        else ControlModel(file, device, dtype)
    )


SHELF = Shelf()


def part_of(p: Any, units: Sequence[Unit], hires: bool) -> Part | None:
    """What acts in this pass, and the networks it needs on the device. SigmaGraftError where it cannot be."""
    asks: list[Ask] = []
    networks: list[nn.Module] = []
    for unit in units:
        if unit.wanted and _in_pass(unit, hires):
            ask, modules = _asked(p, unit)
            asks.append(ask)
            networks += modules

    def begin(walk: Walk) -> None:
        for ask in asks:
            walk.run.add(ask)

    return Part(begin, networks) if asks else None


def _in_pass(unit: Unit, hires: bool) -> bool:
    chosen = unit.words().get("pass", "both")
    if chosen not in PASSES:
        raise OptionError(f"pass {chosen!r} of a control unit", unit.file, " or ".join(PASSES))
    return chosen == "both" or hires == (chosen == "hires")


def _asked(p: Any, unit: Unit) -> tuple[Ask, list[nn.Module]]:
    redrawn = [image for image in getattr(p, "init_images", None) or () if isinstance(image, Image.Image)]
    if unit.file in REFERENCE:
        return ControlAsk(control_of(unit, unit.file, redrawn)), []
    file = opened(unit.file)
    if isinstance(file, IPAdapterFile):
        return _prompted(p, unit, file)
    model = SHELF.made(file, dtype_of(p))
    assert isinstance(model, ControlModel)
    model.device = device_of(p)  # of what is made over the UNet's weights
    control = control_of(unit, model, redrawn, file.kind == "controlnet-union")
    control.pool = pooled(control, file, file.source.name)
    return ControlAsk(control, vision=_vision(p, unit, file)), [model.own] if model.own is not None else []


def _prompted(p: Any, unit: Unit, file: IPAdapterFile) -> tuple[Ask, list[nn.Module]]:
    weights = SHELF.made(file, dtype_of(p))
    assert isinstance(weights, IPAdapter)
    words, encoders = unit.words(), []
    face = load_features(path_of(words["face"])).face if "face" in words else None

    def encode(images: Any, wanted: Any, crop: str) -> Any:
        if not encoders:  # in full numbers on the CPU: once a job, and it needs no room on a card
            encoders.append(encoder_for(file, words.get("encoder", "")))
        return encoders[0].encode(images, wanted, crop)

    prompt = prompt_of(unit, face=face)
    adapters = image_adapters(weights, config_of(unet_of(p)), _NOWHERE, prompt, encode)
    return ImageAsk(adapters), [weights.projection, weights.layers]


def _vision(p: Any, unit: Unit, file: ControlFile) -> Any:
    """The image encoder of a T2I style adapter, where one is named."""
    named = unit.words().get("vision")
    if file.kind != "t2i-style" or not named:
        return None
    from ...controlnet.clip_vision import ImageEncoder

    encoder = ImageEncoder.load(path_of(named, ENCODERS))

    def see(image: Any) -> torch.Tensor:
        with torch.no_grad():
            return encoder.network(pixels([image], encoder.side, "center")).last_hidden_state

    return see
