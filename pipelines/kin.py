"""Perturbed-attention and self-attention guidance as pipelines of diffusers' class names (see `guidance/`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ..core.errors import OptionError
from ..core.patch import Block
from ..guidance import Guidance
from ..guidance.pag import PAG
from ..guidance.sag import SAG
from .arguments import RUN, SIZE, START
from .control import (
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetPipeline,
)
from .guide import TRAINED
from .latent import LatentPipeline
from .models import UNet2DConditionModel
from .stable_diffusion import (
    CHECKED,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

Places = list[tuple[Block, int]]


def self_attentions(unet: UNet2DConditionModel, patterns: Sequence[str]) -> Places:
    """(block, index) of each self-attention whose name in diffusers one of the regular expressions is found in.

    OptionError for one that is found nowhere.
    """
    config = unet.network.config
    every = [(block, index) for block, depth, _ in config.transformers() for index in range(depth)]
    named = {_name(*place): place for place in every}
    places = {name.removesuffix(".weight"): at for name, at in unet.diffusers_names(named).items()}
    found: Places = []
    for pattern in patterns:
        here = [place for name, place in places.items() if re.search(pattern, name)]
        if not here:
            raise OptionError(
                f"pag_applied_layers {pattern!r}", expected=f"part of one of {', '.join(places)}"
            )
        found += here
    return list(dict.fromkeys(found))


def _name(block: Block, index: int) -> str:
    """The LDM name of a self-attention, as of a weight."""
    side, number = block
    path = f"{side}_block" if side == "middle" else f"{side}_blocks.{number}"
    return f"{path}.1.transformer_blocks.{index}.attn1.weight"


class WithPAG(LatentPipeline, takes={"pag_scale": 3.0, "pag_adaptive_scale": 0.0}):
    """Perturbed-attention guidance (arXiv:2403.17377); `pag_applied_layers` are parts of diffusers' module names."""

    options = ("pag_applied_layers",)

    def __init__(
        self, *components: Any, pag_applied_layers: str | Sequence[str] = "mid", **named: Any
    ) -> None:
        super().__init__(*components, **named)
        self.set_pag_applied_layers(pag_applied_layers)

    def set_pag_applied_layers(self, pag_applied_layers: str | Sequence[str]) -> None:
        """Whose self-attention is perturbed: "mid", "up_blocks.1", a regular expression, several. OptionError."""
        layers = [pag_applied_layers] if isinstance(pag_applied_layers, str) else list(pag_applied_layers)
        self_attentions(self.unet, layers)
        self.pag_applied_layers = layers

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "pag_applied_layers": self.pag_applied_layers}

    def kin(self, call: SimpleNamespace) -> list[Guidance]:
        found = super().kin(call)
        if call.pag_scale <= 0:
            return found
        places = self_attentions(self.unet, self.pag_applied_layers)
        return [*found, PAG(self.setting, call.pag_scale, call.pag_adaptive_scale * TRAINED, places)]


class StableDiffusionPAGPipeline(StableDiffusionPipeline, WithPAG):
    """Text to image with SD1 and SD2."""


class StableDiffusionPAGImg2ImgPipeline(StableDiffusionImg2ImgPipeline, WithPAG):
    """Text and a picture to image."""


class StableDiffusionPAGInpaintPipeline(
    StableDiffusionInpaintPipeline,
    WithPAG,
    takes={**StableDiffusionInpaintPipeline.takes, **WithPAG.takes, "strength": 0.9999},
):
    """Repaints what a mask shows white."""


class StableDiffusionXLPAGPipeline(StableDiffusionXLPipeline, WithPAG):
    """Text to image with SDXL."""


class StableDiffusionXLPAGImg2ImgPipeline(StableDiffusionXLImg2ImgPipeline, WithPAG):
    """Text and a picture to image, with SDXL."""


class StableDiffusionXLPAGInpaintPipeline(StableDiffusionXLInpaintPipeline, WithPAG):
    """Repaints what a mask shows white, with SDXL."""


class StableDiffusionControlNetPAGPipeline(StableDiffusionControlNetPipeline, WithPAG):
    """Text to image under the control of pictures."""


class StableDiffusionControlNetPAGInpaintPipeline(StableDiffusionControlNetInpaintPipeline, WithPAG):
    """Repaints what a mask shows white, under the control of pictures."""


class StableDiffusionXLControlNetPAGPipeline(StableDiffusionXLControlNetPipeline, WithPAG):
    """Text to image under the control of pictures, with SDXL."""


class StableDiffusionXLControlNetPAGImg2ImgPipeline(StableDiffusionXLControlNetImg2ImgPipeline, WithPAG):
    """Text and a picture to image under the control of pictures, with SDXL."""


class StableDiffusionSAGPipeline(
    LatentPipeline, takes={**START, **SIZE, **RUN, "sag_scale": 0.75}, more=CHECKED
):
    """Text to image with self-attention guidance (arXiv:2210.00939), with SD1 and SD2."""

    def kin(self, call: SimpleNamespace) -> list[Guidance]:
        return [SAG(self.setting, call.sag_scale)] if call.sag_scale > 0 else []
