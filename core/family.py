"""Which family a UNet belongs to and what task it was trained for, from the shapes of its tensors alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import FileError
from .shapes import Shapes, count, require

Name = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Task = Literal["base", "inpaint", "depth"]


@dataclass(frozen=True)
class Family:
    """What every model of a family shares: its text encoders, the scale of its latents, its training size."""

    name: Name
    label: str
    texts: int
    scale_factor: float
    size: int


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("sd1", "Stable Diffusion 1.x", 1, 0.18215, 512),
        Family("sd2", "Stable Diffusion 2.x", 1, 0.18215, 512),
        Family("sdxl", "Stable Diffusion XL base", 2, 0.13025, 1024),
        Family("sdxl-refiner", "Stable Diffusion XL refiner", 1, 0.13025, 1024),
    )
}
_SUPPORTED = "a Stable Diffusion 1.x, 2.x or XL model"


@dataclass(frozen=True)
class Identity:
    """A UNet's family and task, its latent channels, and the evidence in words."""

    family: Family
    task: Task
    latent_channels: int
    reasons: tuple[str, ...]


def identify(unet: Shapes) -> Identity:
    """Family and task of a UNet by its shapes (LDM names, no prefix); FileError where it is not supported."""
    entered = require(unet, "input_blocks.0.0.weight", "a UNet")[1]
    latent = require(unet, "out.2.weight", "a UNet")[0]
    family, why = _family(unet)
    task, evidence = _task(entered, latent)
    return Identity(FAMILIES[family], task, latent, (why, evidence))


def _family(unet: Shapes) -> tuple[Name, str]:
    linear = any(name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in unet.items())
    levels = 1 + sum(name.startswith("input_blocks.") and name.endswith(".0.op.weight") for name in unet)
    if "label_emb.weight" in unet:
        raise FileError("this UNet takes a class label, as the x4 upscaler does", expected=_SUPPORTED)
    if "label_emb.0.0.weight" not in unet:
        name: Name = "sd2" if linear else "sd1"
        how = "linear" if linear else "convolutional"
        return name, f"{FAMILIES[name].label}: transformers with {how} projections, no vector conditioning"
    if levels == 3:
        return "sdxl", f"{FAMILIES['sdxl'].label}: vector conditioning, three resolutions"
    if count(unet, "input_blocks.4.1.transformer_blocks.{}.norm1.weight") > 1:
        return "sdxl-refiner", f"{FAMILIES['sdxl-refiner'].label}: vector conditioning, four resolutions"
    raise FileError("this UNet takes an image embedding, as SD2 unCLIP does", expected=_SUPPORTED)


def _task(entered: int, latent: int) -> tuple[Task, str]:
    """Channels that enter: the latent; + mask + masked latent to inpaint; + a depth map."""
    if entered == latent:
        return "base", f"text to image: {latent} channels in, {latent} out"
    if entered == 2 * latent + 1:
        return "inpaint", f"inpainting: {entered} channels in = latent, mask, masked latent"
    if entered == latent + 1:
        return "depth", f"depth to image: {entered} channels in = latent, depth map"
    if entered == 2 * latent:
        raise FileError(
            f"this UNet edits pictures by instruction ({entered} channels in)", expected=_SUPPORTED
        )
    raise FileError(f"this UNet takes {entered} channels and gives {latent}", expected=_SUPPORTED)
