"""Pipelines with ControlNets: the model, and text to image with one or several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..controlnet.layouts import control_table
from ..controlnet.model import ControlModel
from ..controlnet.network import ControlNet
from ..controlnet.settings import Control
from ..core.errors import FileError, OptionError
from ..core.keymap import inverse, rename, unet_table
from ..standalone.control import locate_control
from ..standalone.folder import pick_weights
from .arguments import IMAGE, MASK, RUN, SIZE, START, XL, XL_IMAGE
from .component import Component, folder_config
from .latent import LatentPipeline
from .pixels import as_picture
from .stable_diffusion import CHECKED, XLWords
from .starts import from_image, from_mask

_SCALE = "controlnet_conditioning_scale"
CONTROL = {
    _SCALE: 1.0,
    "guess_mode": False,
    "control_guidance_start": 0.0,
    "control_guidance_end": 1.0,
}
HINT = {"control_image": None}
_XL_RUN = {**RUN, "guidance_scale": 5.0, **XL}


class ControlNetModel(Component):
    """A ControlNet or one of its kin, of any format that has a network of its own; it acts inside a pipeline."""

    folder = "controlnet"

    def __init__(self, control: ControlModel, config: dict[str, Any]) -> None:
        if control.own is None:
            todo = "draw with Pipeline, whose control= takes it"
            raise OptionError("this file holds differences from a UNet", control.file.source, todo=todo)
        super().__init__(control.own, config)
        self.control = control

    @classmethod
    def load(cls, path: Path, variant: str | None, dtype: torch.dtype) -> ControlNetModel:
        if path.is_dir():
            chosen = pick_weights([file.name for file in path.iterdir()], variant)
            if chosen is None:
                raise FileError("no weights", path, "a ControlNet")
            return cls(ControlModel.load(path / chosen, dtype=dtype), folder_config(path))
        return cls(ControlModel.load(locate_control(path), dtype=dtype), {})

    def forward(self, *given: Any, **named: Any) -> Any:
        """Raises OptionError: what it answers goes straight into a UNet's blocks."""
        raise OptionError("a ControlNet called by itself", todo="give it to a pipeline: controlnet=")

    def named_tensors(self) -> dict[str, Tensor]:
        network = self.network
        if type(network) is not ControlNet:
            raise OptionError(f"saving a {self.control.file.label}", todo="copy its file")
        c = network.config
        attention = [bool(depth) for depth in c.transformer_depth]
        table = unet_table(c.num_res_blocks, attention, bool(c.transformer_depth_middle))
        hints = sum(isinstance(layer, nn.Conv2d) for layer in network.input_hint_block) - 2
        table |= control_table(hints, len(network.zero_convs))
        return rename(network.state_dict(), inverse(table))[0]


class WithControls(LatentPipeline, more=("controlnet",)):
    """`controlnet` is a ControlNetModel or a list; `image`, or else `control_image`, a picture for each."""

    controlnet: ControlNetModel | Sequence[ControlNetModel] | None

    def controls(self, call: SimpleNamespace) -> list[Control]:
        models = _list(self.controlnet)
        if not models:
            raise OptionError(
                "no controlnet", type(self).__name__, todo="from_pretrained(..., controlnet=model)"
            )
        count = len(models)
        given = call.control_image if hasattr(call, "control_image") else call.image
        pictures = _list(given) if count > 1 else [given]
        if len(pictures) != count or any(picture is None for picture in pictures):
            raise OptionError(f"{len(pictures)} pictures for {count} ControlNets", expected="one for each")
        scales = _each(call.controlnet_conditioning_scale, count, _SCALE)
        starts = _each(call.control_guidance_start, count, "control_guidance_start")
        ends = _each(call.control_guidance_end, count, "control_guidance_end")
        return [
            Control(
                model=model.control,
                image=_shown(picture),
                strength=scale,
                start=start,
                end=end,
                mode="guess" if call.guess_mode else "balanced",
                resize="stretch",
            )
            for model, picture, scale, start, end in zip(models, pictures, scales, starts, ends, strict=True)
        ]


def _shown(picture: Any) -> Any:
    """One picture for all images, or one for each of them."""
    return [as_picture(one) for one in picture] if isinstance(picture, (list, tuple)) else as_picture(picture)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _each(value: Any, count: int, name: str) -> list[float]:
    values = _list(value)
    if len(values) not in (1, count):
        raise OptionError(
            f"{len(values)} of {name} for {count} ControlNets", expected="one for each, or one for all"
        )
    return [float(one) for one in (values if len(values) == count else values * count)]


class StableDiffusionControlNetPipeline(
    WithControls, takes={**START, **IMAGE, **SIZE, **RUN, **CONTROL}, more=CHECKED
):
    """Text to image with SD1 and SD2 under the control of pictures (arXiv:2302.05543)."""


class StableDiffusionControlNetImg2ImgPipeline(
    WithControls,
    start=from_image,
    takes={**START, **IMAGE, **HINT, **SIZE, "strength": 0.8, **RUN, **CONTROL, _SCALE: 0.8},
    more=CHECKED,
):
    """Text and a picture to image with SD1 and SD2 under the control of others, `control_image`."""


class StableDiffusionControlNetInpaintPipeline(
    WithControls,
    start=from_mask,
    takes={**START, **MASK, **HINT, **SIZE, "strength": 1.0, **RUN, **CONTROL, _SCALE: 0.5},
    more=CHECKED,
):
    """Repaints what a mask shows white with SD1 and SD2 under the control of pictures."""


class StableDiffusionXLControlNetPipeline(
    WithControls, XLWords, takes={**START, **IMAGE, **SIZE, **_XL_RUN, **CONTROL}
):
    """Text to image with SDXL under the control of pictures."""


class StableDiffusionXLControlNetImg2ImgPipeline(
    WithControls,
    XLWords,
    start=from_image,
    takes={**START, **IMAGE, **HINT, **SIZE, "strength": 0.8, **_XL_RUN, **XL_IMAGE, **CONTROL, _SCALE: 0.8},
):
    """Text and a picture to image with SDXL under the control of others, `control_image`."""


class StableDiffusionXLControlNetInpaintPipeline(
    WithControls,
    XLWords,
    start=from_mask,
    takes={**START, **MASK, **HINT, **SIZE, "strength": 0.9999, **_XL_RUN, **XL_IMAGE, **CONTROL},
):
    """Repaints what a mask shows white with SDXL under the control of pictures."""
